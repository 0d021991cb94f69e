#pragma once
// What an experiment's record says of its last run, and whether that is still so.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/agent/process.h"
#include "launch/record/run_state.h"

namespace flagscale::launch {

struct RankStatus {
  int rank = 0;
  std::string host, agent_host, cgroup, argv;  // argv: a JSON list
  std::filesystem::path output;
  ProcessId agent, process;         // pid 0: not started yet
  std::optional<ExitStatus> ended;  // of the last start
  std::string phase;                // "": it gives no heartbeats
  int64_t iteration = 0;
};

struct RunStatus {
  std::filesystem::path experiment, log;
  int64_t id = 0;
  std::string name, task, engine, host, boot, culprit;
  RunState state = RunState::kStarting;
  std::optional<int> exit_code;
  double started = 0, ended = 0;  // s since 1970; ended is 0 while it runs
  int restarts = 0, max_restarts = 0;
  ProcessId launcher;
  bool here = false;           // its launcher is, or was, a process of this machine since it was started
  bool launcher_runs = false;  // known only where `here`
  std::vector<RankStatus> ranks;
  std::map<std::string, double> metrics;  // the last that a rank reported, of iteration `measured`
  int64_t measured = 0;

  bool is_one_process() const { return ranks.size() == 1 && ranks[0].process == launcher; }
};

// What became of a run that left no word of its end.
inline constexpr const char* kLauncherWasKilled = "its launcher was killed";
inline constexpr const char* kWasKilled = "it was killed";  // of one process

// None where there is no record. A run whose launcher was killed is failed. Throws Error for a record that
// cannot be read.
std::optional<RunStatus> last_run(const std::filesystem::path& experiment);

std::string to_json(const RunStatus& status);  // one object

// The experiments that this user has started on this machine, newest first: ~/.local/state/flagscale (or
// $XDG_STATE_HOME) keeps their folders' names. remember() does nothing where that cannot be written.
void remember_experiment(const std::filesystem::path& experiment);
std::vector<std::filesystem::path> remembered_experiments();

}  // namespace flagscale::launch
