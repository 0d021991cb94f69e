#pragma once
// A launcher is the way to a job's hosts: it reaches them, brings them what they need, and starts one agent
// (launch/agent) a node there, whose stdin and stdout it hands over. One file a launcher, that registers
// itself; it knows nothing of what an agent says. Batch systems, which start every node by themselves, are in
// batch_system.h.

#include <memory>
#include <string>
#include <vector>

#include "base/registry.h"
#include "launch/agent/link.h"
#include "launch/job.h"
#include "launch/launcher/options.h"

namespace flagscale::launch {

class Launcher {
 public:
  virtual ~Launcher() = default;

  // Before any open(), once, or host by host: reaches every host of the job side by side. Throws Error with
  // one line for each host that was not reached, naming it and the fix; nothing runs there then.
  virtual void prepare(const Job& job) = 0;

  // Starts the node's agent, this program's `agent -`, on its host. The child of the link is the way there,
  // in a session of its own, out of a terminal's reach. Error where not even that starts.
  virtual AgentLink open(const NodeTask& task) = 0;

  // Why a link ended that should not have: one clear line naming the host and the fix, from what its child
  // said on stderr; "" where there is nothing to say but the exit code (128 + signal where a signal ended the
  // child).
  virtual std::string explain(const NodeTask& task, int exit_code) = 0;
};

struct LauncherKind {
  const char* summary;  // one line, no capital, no full stop
  std::unique_ptr<Launcher> (*make)(const LauncherOptions& options);
};

// experiment.runner.type: a launcher's name, a batch system's, or "cloud". Throws Error{kConfig} for another.
void check_runner_type(const std::string& type, const std::string& place = "experiment.runner.type");

// "local"; "ssh", where "localhost" is this machine without ssh; "slurm", inside an allocation; "openmpi".
// Throws Error{kConfig} with the nearest name for another.
std::unique_ptr<Launcher> make_launcher(const std::string& name, const LauncherOptions& options);

}  // namespace flagscale::launch
