#pragma once
// What launchers share: a command a node, whose stderr is kept for explain().

#include <map>

#include "launch/launcher/launcher.h"

namespace flagscale::launch {

class LinkedLauncher : public Launcher {
 public:
  explicit LinkedLauncher(const LauncherOptions& options);
  ~LinkedLauncher() override;
  LinkedLauncher(const LinkedLauncher&) = delete;
  LinkedLauncher& operator=(const LinkedLauncher&) = delete;

  void prepare(const Job&) override {}
  AgentLink open(const NodeTask& task) override;
  std::string explain(const NodeTask& task, int exit_code) override;

 protected:
  // What this process starts for the node: `agent` (this program with its words), or what brings it to the
  // host.
  virtual Command way(const NodeTask& task, std::vector<std::string> agent) = 0;
  // `err`: the last lines of the way's stderr.
  virtual std::string explain(const NodeTask& task, int exit_code, const std::vector<std::string>& err) = 0;

  LauncherOptions options_;
  std::string program_;  // this one

 private:
  std::map<int, int> err_;  // by rank: a file in memory, which no chatter can fill
};

// "host b (rank 1)", or "rank 1" on this machine.
std::string name_of(const NodeTask& task);

}  // namespace flagscale::launch
