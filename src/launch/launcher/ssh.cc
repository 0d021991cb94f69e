// Nodes on other hosts, each reached by OpenSSH's client, or in a container there. "localhost" is this
// machine, without ssh.

#include <fmt/format.h>

#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "launch/launcher/child.h"
#include "launch/launcher/container.h"
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
  explicit SshLauncher(const LauncherOptions& options)
      : LinkedLauncher(options), container_(options.container, options.root) {}

  void prepare(const Job& job) override {
    std::set<std::string> names;
    for (const NodeTask& task : job.nodes)
      if (!is_local(task.host.name) || container_.entered_from(task.host.name)) names.insert(task.host.name);
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
    const std::string& host = task.host.name;
    if (const auto there = programs_.find(host); there != programs_.end()) agent[0] = there->second;
    if (!is_local(host)) {
      const auto inside = entering(host, agent);
      agent = {"exec"};  // no shell stays between
      agent.insert(agent.end(), inside.begin(), inside.end());
      return {ssh_->argv(host, agent), {}, {}};
    }
    return on(host, std::move(agent));
  }

  std::string explain(const NodeTask& task, int exit_code, const std::vector<std::string>& err) override {
    if (container_.entered_from(task.host.name))
      if (const auto line = container_.explain(task.host.name, err, program_); !line.empty()) return line;
    if (exit_code == kNotFound || exit_code == kNotExecutable) return missing(task.host.name, err);
    const std::string last = err.empty() ? "" : err.back();
    if (is_local(task.host.name) || exit_code != kSshFailed)
      return err.empty() ? "" : name_of(task) + ": " + last;
    if (const std::string line = explain_ssh_failure(task.host.name, ssh_->port(), err); !line.empty())
      return line;
    // The shared connection ended, and its session has nothing to say of it.
    return fmt::format("host {}: it was lost: the connection ended{}", task.host.name,
                       err.empty() ? "" : " (the last line from there: " + last + ")");
  }

 private:
  // Reached without ssh: this machine, also by its other names where this process is in the container
  // already.
  bool is_local(const std::string& host) const {
    return host == "localhost" || (container_.given() && !container_.entered_from(host));
  }

  std::vector<std::string> entering(const std::string& host, const std::vector<std::string>& words) const {
    std::vector<std::string> all;
    if (container_.entered_from(host)) all = container_.words();
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }

  Command on(const std::string& host, const std::vector<std::string>& words) {
    std::vector<std::string> all = entering(host, words);
    if (!is_local(host)) return {ssh_->argv(host, all), {}, {}};
    if (container_.entered_from(host))  // as on other hosts, a shell tells where there is no docker
      all.insert(all.begin(), {"sh", "-c", "exec \"$@\"", "sh"});
    return {all, {}, {}};
  }

  std::string missing(const std::string& host, const std::vector<std::string>& err) const {
    if (container_.entered_from(host)) {
      const std::string line = container_.explain(host, err, program_);
      if (!line.empty()) return line;
      return fmt::format(
          "host {}: container {} (experiment.runner.docker) has no {}: experiment.runner.no_shared_fs: true "
          "brings it, or put it into the image{}",
          host, options_.container, program_, err.empty() ? "" : " (" + err.back() + ")");
    }
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
    for (const std::string& host : hosts) commands.push_back(on(host, words));
    return run_all(commands, time, input, OnInterrupt::kEnd);
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
    const std::vector<std::string> words = {"sh", "-c", "[ -x \"$1\" ] && echo flagscale-ready", "sh",
                                            program_};
    refuse(hosts_, everywhere(hosts_, words, answer_time()),
           [&](const std::string& host, const Finished& answer) {
             return answer.out.find(kReady) == std::string::npos ? missing(host, lines_of(answer.err)) : "";
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
      if (answer.exit_code == 0) return "";
      const std::string line = container_.explain(host, lines_of(answer.err), "sh");
      return line.empty() ? fmt::format("host {}: no sh there: {}", host, answer.err) : line;
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

  Container container_;
  std::vector<std::string> hosts_;               // that have to be asked
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
