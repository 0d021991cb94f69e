#include "launch/diagnosis/job_logs.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string_view>

#include "base/error.h"

namespace flagscale::launch {

namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kLogFolders{"logs", "inference_logs", "serve_logs",
                                                      "compress_logs"};
constexpr std::array<std::string_view, 4> kLogExtensions{".log", ".out", ".err", ".output"};

// All of a text as a number; -1 if it is none.
int number(std::string_view text) {
  int value = -1;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() ? value : -1;
}

// "rank3", "rank_3", "rank-03"
int rank_of(std::string_view stem) {
  const size_t at = stem.rfind("rank");
  if (at == std::string_view::npos) return -1;
  std::string_view digits = stem.substr(at + 4);
  if (digits.starts_with('_') || digits.starts_with('-')) digits.remove_prefix(1);
  return number(digits);
}

bool is_host_log(const fs::path& path) {
  const std::string name = path.filename().string();
  return name == "host.output" || (name.starts_with("host_") && name.ends_with(".output"));
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> result;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    result.push_back(it->path());
  std::sort(result.begin(), result.end());
  return result;
}

template <class Wanted>
void add_files(const fs::path& folder, std::vector<fs::path>& found, Wanted&& wanted) {
  for (const fs::path& path : entries(folder))
    if (std::error_code error; fs::is_regular_file(path, error) && wanted(path)) found.push_back(path);
}

std::vector<fs::path> job_outputs(const fs::path& folder) {
  std::vector<fs::path> found;
  add_files(folder, found, is_host_log);
  for (const std::string_view name : kLogFolders)
    add_files(folder / name, found, [](const fs::path& path) {
      return is_host_log(path) || (path.extension() == ".log" && path.filename() != "launcher.log");
    });
  return found;
}

// …/<start>/<id>/attempt_<n>/<local rank>/stderr.log: of each host's folder the newest start and attempt.
std::vector<fs::path> newest_attempts(const fs::path& folder) {
  std::map<fs::path, std::pair<fs::path, int>> newest;  // a host's folder, the folder of its newest attempt
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("attempt_") || !it->is_directory(error)) continue;
    const std::pair candidate(it->path().parent_path(), number(std::string_view(name).substr(8)));
    auto& best = newest[it->path().parent_path().parent_path().parent_path()];
    best = std::max(best, candidate);
  }
  std::vector<fs::path> found;
  for (const auto& [host, attempt] : newest)
    for (const fs::path& rank : entries(attempt.first / ("attempt_" + std::to_string(attempt.second))))
      add_files(rank, found, [](const fs::path& path) { return path.extension() == ".log"; });
  return found;
}

std::vector<fs::path> any_logs(const fs::path& folder) {
  std::vector<fs::path> found;
  add_files(folder, found, [](const fs::path& path) {
    const std::string extension = path.extension().string();
    return std::find(kLogExtensions.begin(), kLogExtensions.end(), extension) != kLogExtensions.end();
  });
  return found;
}

}  // namespace

JobLog read_log_name(const fs::path& path) {
  JobLog log{path, "", -1, {}};
  const std::string stem = path.stem().string();
  if (is_host_log(path) && stem.starts_with("host_")) {
    const size_t host = stem.find('_', 5);
    if (host != std::string::npos) log.host = stem.substr(host + 1);
    log.node = number(std::string_view(stem).substr(5, host - 5));
  } else if (path.parent_path().parent_path().filename().string().starts_with("attempt_")) {
    log.speaker.local_rank = number(path.parent_path().filename().string());
  } else {
    log.speaker.rank = rank_of(stem);
  }
  return log;
}

std::vector<JobLog> find_logs(const fs::path& file_or_folder) {
  std::error_code error;
  if (!fs::exists(file_or_folder, error))
    fail(ErrorKind::kNotFound, "{}: there is no such file or folder", file_or_folder.string());
  if (!fs::is_directory(file_or_folder, error)) return {read_log_name(file_or_folder)};
  std::vector<fs::path> found = job_outputs(file_or_folder);
  if (found.empty()) found = newest_attempts(file_or_folder);
  if (found.empty()) found = any_logs(file_or_folder);
  if (found.empty())
    fail(ErrorKind::kNotFound, "{}: no logs are here: expected logs/host_0_HOST.output, or files *.log",
         file_or_folder.string());
  std::vector<JobLog> logs;
  for (const fs::path& path : found) logs.push_back(read_log_name(path));
  return logs;
}

}  // namespace flagscale::launch
