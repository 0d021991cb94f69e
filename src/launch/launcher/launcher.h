#pragma once
// A launcher carries a job's nodes to their hosts: it starts one agent a node there, reports each node's end,
// and stops them. One file a launcher, that registers itself; it knows nothing of what an agent does.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.h"
#include "launch/job.h"
#include "launch/launcher/options.h"

namespace flagscale::launch {

// What is started for every node: this program with these words. `words` end in "-" where the node's input
// comes on stdin, one line, and stdin then stays open: its end says that the launcher stops the node or is
// itself gone. Where a batch system starts the nodes, "-" becomes the path of a file with all nodes' inputs,
// a line each, by rank.
struct Agent {
  std::vector<std::string> words = {"agent", "-"};
  std::function<std::string(const NodeTask&)> input;  // without a newline in it
  // A line that the node's agent wrote, without its newline; called from start(), wait() and stop(), on the
  // caller's thread.
  std::function<void(int rank, std::string_view line, bool is_error)> line = {};
};

struct NodeEnd {
  int rank = 0;
  int exit_code = 0;    // the agent's; 128 + signal where a signal ended it; 255 when its host was lost
  std::string message;  // one clear line naming the host, where there is more to say than the code
};

class Launcher {
 public:
  virtual ~Launcher() = default;  // stops what still runs, without grace

  // Starts every node, or none: throws Error with one line for each host that was not reached, naming it and
  // the fix.
  virtual void start(const Job& job, const Agent& agent) = 0;

  // The ends since the last call, waiting up to `time` for the first. Nodes' lines are passed on meanwhile.
  virtual std::vector<NodeEnd> wait(std::chrono::milliseconds time) = 0;

  // Asks every node to stop; those that still run after `grace` are cut off. All have ended when it returns;
  // what they returned comes from wait().
  virtual void stop(std::chrono::milliseconds grace) = 0;
};

struct LauncherKind {
  const char* summary;  // one line, no capital, no full stop
  std::unique_ptr<Launcher> (*make)(const LauncherOptions& options);
};

// The launcher of `runner.type`: "local", "ssh" (which is local where there are no other hosts), "slurm",
// "kubernetes", "openmpi". Throws Error{kConfig} with the nearest name for another.
std::unique_ptr<Launcher> make_launcher(const std::string& name, const LauncherOptions& options);

}  // namespace flagscale::launch
