#pragma once
// Launchers that hold one child of this process a node: the agent itself, or the ssh or srun that reaches it.
// The node's input goes to the child's stdin, which stays open; the node's end is the child's.

#include <deque>

#include "launch/launcher/child.h"
#include "launch/launcher/launcher.h"

namespace flagscale::launch {

class PipedLauncher : public Launcher {
 public:
  void start(const Job& job, const Agent& agent) override;
  std::vector<NodeEnd> wait(std::chrono::milliseconds time) override;
  void stop(std::chrono::milliseconds grace) override;

 protected:
  // Before anything starts: reaches hosts and brings them what they need. Throws as start() does.
  virtual void prepare(const Job&) {}
  // What this process starts for the node: a way to its host, and there this program with `words`.
  virtual Command command(const NodeTask& task, const std::vector<std::string>& words) = 0;
  // What there is to say of a node that did not end well; `err`: the last lines of its stderr.
  virtual std::string explain(const NodeTask& task, int exit_code, const std::vector<std::string>& err) = 0;

 private:
  struct Node {
    NodeTask task;
    Child child;
    std::deque<std::string> err;  // the last lines
    bool reported = false;
  };
  void pump(std::chrono::milliseconds time);
  bool running() const;
  std::vector<NodeEnd> take_ends();

  Agent agent_;
  std::deque<Node> nodes_;
};

// "host b (rank 1)", or "rank 1" on this machine.
std::string name_of(const NodeTask& task);

}  // namespace flagscale::launch
