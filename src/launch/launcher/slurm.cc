// Nodes on the hosts of a Slurm allocation, each reached by an srun of its own.

#include <fmt/format.h>

#include <cstdlib>
#include <set>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/launcher/linked_launcher.h"
#include "launch/launcher/slurm_allocation.h"

namespace flagscale::launch {

namespace {

class SlurmLauncher : public LinkedLauncher {
 public:
  using LinkedLauncher::LinkedLauncher;

  void prepare(const Job& job) override {
    const auto hosts = allocated_hosts();
    if (!hosts)
      fail(ErrorKind::kConfig,
           "experiment.runner.type is slurm, and this is no Slurm allocation (SLURM_JOB_ID, "
           "SLURM_JOB_NODELIST): submit "
           "the job, or start it in one that salloc gives");
    std::set<std::string> names;
    for (const Host& host : *hosts) names.insert(host.name);
    for (const NodeTask& task : job.nodes)
      if (!names.contains(task.host.name))
        fail(ErrorKind::kConfig, "host {} is not in this Slurm allocation ({})", task.host.name,
             getenv("SLURM_JOB_NODELIST"));
  }

 protected:
  // --unbuffered, or whole lines alone come through; --overlap and --mem=0, for a node has all that the job
  // has there.
  Command way(const NodeTask& task, std::vector<std::string> agent) override {
    std::vector<std::string> argv = {
        "srun",      "--nodes=1",   "--ntasks=1",   "--nodelist=" + task.host.name,
        "--overlap", "--mem=0",     "--unbuffered", "--quiet",
        "--chdir=/", "--export=ALL"};
    argv.insert(argv.end(), agent.begin(), agent.end());
    return {argv, {}, {}};
  }

  std::string explain(const NodeTask& task, int, const std::vector<std::string>& err) override {
    for (const std::string& line : err) {
      if (line.find("NODE FAIL") != std::string::npos || line.find("not responding") != std::string::npos)
        return fmt::format("host {}: Slurm has lost it: {}", task.host.name, line);
      if (line.find("DUE TO TIME LIMIT") != std::string::npos)
        return fmt::format("host {}: the allocation's time is over: experiment.runner.slurm.time",
                           task.host.name);
      if (line.find("No such file or directory") != std::string::npos)
        return fmt::format("host {}: {} is not there: Slurm's hosts need this program at the same path",
                           task.host.name, program_);
    }
    return err.empty() ? "" : name_of(task) + ": " + err.back();
  }
};

const Registration<LauncherKind> kSlurm{"slurm",
                                        {"nodes on the hosts of a Slurm allocation",
                                         [](const LauncherOptions& options) -> std::unique_ptr<Launcher> {
                                           return std::make_unique<SlurmLauncher>(options);
                                         }}};

}  // namespace
}  // namespace flagscale::launch
