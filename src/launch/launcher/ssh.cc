// Nodes on other hosts, each reached by OpenSSH's client. "localhost" is this machine, without ssh.

#include <fmt/format.h>

#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "launch/launcher/child.h"
#include "launch/launcher/linked_launcher.h"
#include "launch/launcher/program_transfer.h"
#include "launch/launcher/ssh_connections.h"
#include "launch/launcher/ssh_failure.h"
#include "net/digest.h"

namespace flagscale::launch {

namespace {

constexpr const char* kReady = "flagscale-ready";
constexpr int kSshFailed = 255, kNotFound = 127, kNotExecutable = 126, kKilled = 128 + 9;

class SshLauncher : public LinkedLauncher {
 public:
  explicit SshLauncher(const LauncherOptions& options) : LinkedLauncher(options) {
    if (options.no_shared_fs && !options.container.empty())
      fail(ErrorKind::kUnsupported,
           "experiment.runner has both docker and no_shared_fs: a container has its own files; put this "
           "program into "
           "its image, at {}",
           program_);
  }

  void prepare(const Job& job) override {
    std::set<std::string> names;
    for (const NodeTask& task : job.nodes) names.insert(task.host.name);
    names.erase("localhost");
    if (names.empty()) return;
    hosts_.assign(names.begin(), names.end());
    if (!ssh_) ssh_.emplace(job.ssh_port, options_);
    if (options_.no_shared_fs)
      bring_program();
    else
      find_program();
  }

 protected:
  Command way(const NodeTask& task, std::vector<std::string> agent) override {
    if (const auto there = programs_.find(task.host.name); there != programs_.end()) agent[0] = there->second;
    const std::vector<std::string> before = container();
    agent.insert(agent.begin(), before.begin(), before.end());
    if (task.host.is_here()) return {agent, {}, {}};
    agent.insert(agent.begin(), "exec");  // no shell stays between
    return {ssh_->argv(task.host.name, agent), {}, {}};
  }

  std::string explain(const NodeTask& task, int exit_code, const std::vector<std::string>& err) override {
    if (exit_code == kNotFound || exit_code == kNotExecutable) return missing(task.host.name);
    const std::string last = err.empty() ? "" : err.back();
    if (task.host.is_here() || exit_code != kSshFailed) return err.empty() ? "" : name_of(task) + ": " + last;
    if (const std::string line = explain_ssh_failure(task.host.name, ssh_->port(), err); !line.empty())
      return line;
    // The shared connection ended, and its session has nothing to say of it.
    return fmt::format("host {}: it was lost: the connection ended{}", task.host.name,
                       err.empty() ? "" : " (the last line from there: " + last + ")");
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

  std::string not_reached(const std::string& host, const std::vector<std::string>& err) const {
    std::string line = explain_ssh_failure(host, ssh_->port(), err);
    if (!line.empty()) return line;
    return fmt::format("host {}: ssh failed: {}", host, err.empty() ? "it says nothing" : err.back());
  }

  // One line a host for which `problem` has one; none goes on where one fails.
  template <class Problem>
  void refuse(const std::vector<std::string>& hosts, const std::vector<Finished>& answers,
              const Problem& problem) {
    std::string lines;
    for (size_t i = 0; i < hosts.size(); ++i) {
      const std::string line = answers[i].exit_code == kSshFailed
                                   ? not_reached(hosts[i], lines_of(answers[i].err))
                               : answers[i].exit_code == kKilled
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
    const std::string checksum = net::digest_of_file(archive, net::DigestKind::kSha256);
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
