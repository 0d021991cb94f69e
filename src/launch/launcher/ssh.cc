// Nodes on other hosts, each reached by OpenSSH's client. "localhost" is this machine, without ssh.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "launch/launcher/piped_launcher.h"
#include "launch/launcher/program_transfer.h"
#include "launch/launcher/ssh_connections.h"
#include "launch/launcher/ssh_failure.h"
#include "launch/launcher/this_program.h"
#include "net/digest.h"

namespace flagscale::launch {

namespace {

constexpr const char* kReady = "flagscale-ready";
constexpr int kSshFailed = 255, kNotFound = 127, kNotExecutable = 126;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class SshLauncher : public PipedLauncher {
 public:
  explicit SshLauncher(const LauncherOptions& options) : options_(options), program_(this_program(options)) {
    if (options.no_shared_fs && !options.container.empty())
      fail(ErrorKind::kUnsupported,
           "experiment.runner has both docker and no_shared_fs: a container has its own files; put this "
           "program into "
           "its image, at {}",
           program_);
  }

 protected:
  void prepare(const Job& job) override {
    std::set<std::string> names;
    for (const NodeTask& task : job.nodes) names.insert(task.host.name);
    names.erase("localhost");
    if (names.empty()) return;
    hosts_.assign(names.begin(), names.end());
    ssh_.emplace(job.ssh_port, options_);
    if (options_.no_shared_fs)
      bring_program();
    else
      find_program();
  }

  Command command(const NodeTask& task, const std::vector<std::string>& words) override {
    const auto there = programs_.find(task.host.name);
    std::vector<std::string> argv = container();
    argv.push_back(there == programs_.end() ? program_ : there->second);
    argv.insert(argv.end(), words.begin(), words.end());
    if (task.host.name == "localhost") return {argv, {}, {}};
    argv.insert(argv.begin(), "exec");
    return {ssh_->argv(task.host.name, argv), {}, {}};
  }

  std::string explain(const NodeTask& task, int exit_code, const std::vector<std::string>& err) override {
    if (task.host.name == "localhost" || exit_code > kSshFailed) return "";
    if (exit_code == kSshFailed) return explain_ssh_failure(task.host.name, ssh_->port(), err);
    if (exit_code == kNotFound || exit_code == kNotExecutable) return missing(task.host.name);
    return exit_code > 128
               ? fmt::format("{}: its agent was ended by signal {}", name_of(task), exit_code - 128)
               : "";
  }

 private:
  std::vector<std::string> container() const {
    if (options_.container.empty()) return {};
    return {"docker", "exec", "-i", options_.container};
  }

  std::string missing(const std::string& host) const {
    if (!options_.container.empty())
      return fmt::format("host {}: its container {} does not run, or has no {}", host, options_.container,
                         program_);
    return fmt::format(
        "host {}: {} is not there: where hosts share no file system, experiment.runner.no_shared_fs: true "
        "brings it",
        host, program_);
  }

  // One command on each of the hosts, side by side.
  std::vector<Finished> everywhere(const std::vector<std::string>& hosts,
                                   const std::vector<std::string>& words, std::chrono::milliseconds time,
                                   const std::filesystem::path& input = {}) {
    std::vector<Command> commands;
    for (const std::string& host : hosts) commands.push_back({ssh_->argv(host, words), {}, {}});
    return run_all(commands, time, input);
  }

  // One line a host for which `problem` has one; none goes on where one fails.
  template <class Problem>
  void refuse(const std::vector<std::string>& hosts, const std::vector<Finished>& answers,
              const Problem& problem) {
    std::string lines;
    for (size_t i = 0; i < hosts.size(); ++i) {
      const std::string line = answers[i].exit_code == kSshFailed
                                   ? explain_ssh_failure(hosts[i], ssh_->port(), lines_of(answers[i].err))
                               : answers[i].exit_code == 128 + 9
                                   ? fmt::format("host {}: its shell did not answer in time", hosts[i])
                                   : problem(hosts[i], answers[i]);
      if (!line.empty()) lines += (lines.empty() ? "" : "\n") + line;
    }
    if (!lines.empty()) throw Error(ErrorKind::kResource, lines);
  }

  // The connection has connect_time, and the shell behind it as long again.
  std::chrono::milliseconds answer_time() const {
    return 2 * options_.connect_time + std::chrono::seconds(5);
  }

  void find_program() {
    std::vector<std::string> words = container();
    words.insert(words.end(), {"sh", "-c", "[ -x \"$1\" ] && echo flagscale-ready", "sh", program_});
    refuse(hosts_, everywhere(hosts_, words, answer_time()),
           [&](const std::string& host, const Finished& answer) {
             return answer.out.find(kReady) == std::string::npos ? missing(host) : "";
           });
  }

  void bring_program() {
    const std::filesystem::path archive = find_archive(options_, ssh_->folder());
    const std::string checksum = net::sha256_hex_of_file(archive);
    std::vector<std::string> needing;
    const auto asked = everywhere(hosts_, ask_for_program(checksum), answer_time());
    refuse(hosts_, asked, [&](const std::string& host, const Finished& answer) -> std::string {
      programs_[host] = program_in_answer(answer.out);
      if (programs_[host].empty()) needing.push_back(host);
      return answer.exit_code == 0 ? "" : fmt::format("host {}: no sh there: {}", host, answer.err);
    });
    if (needing.empty()) return;
    info("bringing this program to {} of {} hosts ({} MiB)", needing.size(), hosts_.size(),
         std::filesystem::file_size(archive) >> 20);
    const auto brought = everywhere(needing, receive_program(checksum), {}, archive);
    refuse(needing, brought, [&](const std::string& host, const Finished& answer) -> std::string {
      programs_[host] = program_in_answer(answer.out);
      if (!programs_[host].empty()) return "";
      const auto err = lines_of(answer.err);
      return fmt::format("host {}: the program could not be brought: {}", host,
                         err.empty() ? "its shell ended" : err.back());
    });
  }

  LauncherOptions options_;
  std::string program_;
  std::vector<std::string> hosts_;               // beside this one
  std::map<std::string, std::string> programs_;  // by host, where they have their own
  std::optional<SshConnections> ssh_;
};

const Registration<LauncherKind> kSsh{"ssh",
                                      {"nodes on the hosts of a hostfile, reached by ssh",
                                       [](const LauncherOptions& options) -> std::unique_ptr<Launcher> {
                                         return std::make_unique<SshLauncher>(options);
                                       }}};

}  // namespace
}  // namespace flagscale::launch
