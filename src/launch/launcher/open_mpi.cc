// Nodes where Open MPI's mpirun starts programs: by its own ssh, or by the batch system that it was built
// for.

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/launcher/linked_launcher.h"
#include "launch/launcher/scratch_folder.h"

namespace flagscale::launch {

namespace {

// In containers everyone is root, and whoever started this program has decided to be.
std::map<std::string, std::string> leave_to_be_root() {
  if (geteuid() != 0) return {};
  return {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
}

class OpenMpiLauncher : public LinkedLauncher {
 public:
  using LinkedLauncher::LinkedLauncher;

  void prepare(const Job& job) override {
    std::string text;
    std::set<std::string> named;
    for (const NodeTask& task : job.nodes)
      if (named.insert(task.host.name).second)
        text += fmt::format("{} slots={}\n", task.host.name, std::max(task.host.slots, 1));
    std::ofstream(hostfile()) << text;
    std::vector<Command> commands;
    const std::vector<std::string> hosts(named.begin(), named.end());
    for (const std::string& host : hosts)
      commands.push_back({mpirun(host, {"test", "-x", program_}), leave_to_be_root(), {}});
    std::string lines;
    const auto answers =
        run_all(commands, 2 * options_.connect_time + std::chrono::seconds(20), {}, OnInterrupt::kEnd);
    for (size_t i = 0; i < hosts.size(); ++i)
      if (answers[i].exit_code != 0) lines += (lines.empty() ? "" : "\n") + not_reached(hosts[i], answers[i]);
    if (!lines.empty()) throw Error(ErrorKind::kResource, lines);
  }

 protected:
  Command way(const NodeTask& task, std::vector<std::string> agent) override {
    return {mpirun(task.host.name, agent), leave_to_be_root(), {}};
  }

  std::string explain(const NodeTask& task, int, const std::vector<std::string>& err) override {
    const std::string line = what_matters(err);
    return line.empty() ? "" : name_of(task) + ": " + line;
  }

 private:
  std::string hostfile() const { return scratch_.path + "/hosts"; }

  // One process on that host, bound to none of its cores: what it starts wants all.
  std::vector<std::string> mpirun(const std::string& host, const std::vector<std::string>& words) const {
    std::vector<std::string> argv = {"mpirun", "--hostfile", hostfile(),  "--host", host,
                                     "-np",    "1",          "--bind-to", "none",   "--oversubscribe"};
    argv.insert(argv.end(), options_.mpi_arguments.begin(), options_.mpi_arguments.end());
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }

  // mpirun frames its messages with rules and tells causes by the page.
  static std::string what_matters(const std::vector<std::string>& err) {
    std::string last;
    for (const std::string& line : err) {
      if (line.find_first_not_of("- \t") == std::string::npos || line.starts_with("[")) continue;
      last = line;
    }
    return last.substr(std::min(last.size(), last.find_first_not_of(' ')));
  }

  std::string not_reached(const std::string& host, const Finished& answer) const {
    // mpirun's own mistakes, as of an argument that it does not know, end with 1 too.
    const bool ran = answer.exit_code == 1 && answer.err.find("non-zero") != std::string::npos;
    if (ran)
      return fmt::format("host {}: {} is not there: mpirun's hosts need this program at the same path", host,
                         program_);
    for (const std::string& line : lines_of(answer.err))
      if (line.starts_with("mpirun: Error"))
        return fmt::format("host {}: mpirun refuses its arguments (experiment.runner.mpi_arguments): {}",
                           host, line);
    for (const std::string& line : lines_of(answer.err))
      if (line.find("Permission denied") != std::string::npos ||
          line.find("Could not resolve") != std::string::npos ||
          line.find("Host key verification failed") != std::string::npos ||
          line.find("Connection refused") != std::string::npos ||
          line.find("No route to host") != std::string::npos || line.find("timed out") != std::string::npos)
        return fmt::format("host {}: mpirun's ssh does not reach it: {}", host, line);
    return fmt::format("host {}: mpirun does not reach it (mpirun --host {} hostname shows more): {}", host,
                       host, what_matters(lines_of(answer.err)));
  }

  ScratchFolder scratch_;
};

const Registration<LauncherKind> kOpenMpi{"openmpi",
                                          {"nodes on the hosts of a hostfile, reached by Open MPI's mpirun",
                                           [](const LauncherOptions& options) -> std::unique_ptr<Launcher> {
                                             return std::make_unique<OpenMpiLauncher>(options);
                                           }}};

}  // namespace
}  // namespace flagscale::launch
