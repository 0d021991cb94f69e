#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "app/command.h"
#include "base/error.h"
#include "launch/diagnosis/job_logs.h"
#include "launch/diagnosis/log_file.h"
#include "launch/diagnosis/recorded_endings.h"
#include "launch/diagnosis/report.h"

namespace flagscale::diagnose_command {
namespace {

struct Options {
  std::vector<std::string> paths, exits;
  bool json = false;
};

// "1=137"
launch::Ending read_exit(const std::string& text) {
  int rank = -1, code = 0;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, rank);
  if (first.ec == std::errc() && rank >= 0 && first.ptr != end && *first.ptr == '=') {
    const auto second = std::from_chars(first.ptr + 1, end, code);
    if (second.ec == std::errc() && second.ptr == end) return launch::exited(rank, code);
  }
  fail(ErrorKind::kInvalidArgument, "--exit is '{}', expected RANK=CODE, such as 1=137 or 1=-9", text);
}

void read_stdin(launch::LogScan& scan) {
  std::array<char, 1 << 16> chunk{};
  while (true) {
    const ssize_t size = read(STDIN_FILENO, chunk.data(), chunk.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) fail(ErrorKind::kResource, "stdin cannot be read: {}", std::strerror(errno));
    if (size == 0) break;
    scan.feed({chunk.data(), static_cast<size_t>(size)});
  }
  scan.flush();
}

// The logs of a file or a folder; and how its nodes ended, where each is one process: else the ranks in the
// logs are others than those on record.
void read_path(const std::string& path, std::deque<launch::LogFile>& files,
               std::vector<launch::RankLog>& logs, std::vector<launch::Ending>& endings) {
  bool marks = false;
  for (const launch::JobLog& log : launch::find_logs(path)) {
    launch::LogFile& file = files.emplace_back(log.path);
    file.read();
    file.end();
    launch::RankLog& read = logs.emplace_back(
        launch::RankLog{log.speaker, log.host, log.path.lexically_normal().string(), &file.scan()});
    if (file.scan().has_marks())
      marks = true;
    else if (log.node >= 0)
      read.speaker.rank = log.node;
  }
  if (marks) return;
  const std::vector<launch::Ending> recorded = launch::recorded_endings(path);
  endings.insert(endings.end(), recorded.begin(), recorded.end());
}

void run(const Options& options) {
  std::vector<launch::Ending> endings;
  for (const std::string& text : options.exits) endings.push_back(read_exit(text));
  std::vector<launch::RankLog> logs;
  std::deque<launch::LogFile> files;  // logs point into it
  launch::LogScan piped(launch::year_of("/dev/stdin"));
  for (const std::string& path : options.paths) {
    if (path != "-") {
      read_path(path, files, logs, endings);
      continue;
    }
    read_stdin(piped);
    logs.push_back({{}, "", "stdin", &piped});
  }
  const launch::Diagnosis diagnosis = launch::diagnose(logs, endings);
  fmt::print("{}", options.json ? launch::to_json(diagnosis) : launch::to_text(diagnosis));
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("paths", options->paths, "logs, an experiment's folder (exp_dir), or - for stdin")
      ->required();
  app.add_option("--exit", options->exits, "how a rank's process ended, RANK=CODE; may be repeated");
  app.add_flag("--json", options->json, "print JSON");
  app.footer(
      "Examples:\n"
      "  flagscale diagnose outputs/aquila\n"
      "  flagscale diagnose rank0.log rank1.log --exit 1=137 --json\n"
      "  kubectl logs job/train | flagscale diagnose -");
  app.callback([options] { run(*options); });
}

const Registration<Command> kDiagnose{
    "diagnose", {"say which rank failed first, of what, and what to do, from a job's logs", &setup}};

}  // namespace
}  // namespace flagscale::diagnose_command
