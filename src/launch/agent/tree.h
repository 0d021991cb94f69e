#pragma once
// The processes that an agent has started, and their end: SIGTERM to the head, later to what it left, SIGKILL
// to all when the time is over. Only what lies below the calling process is ever signalled.

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "launch/agent/cgroup.h"
#include "launch/agent/process.h"

namespace flagscale::launch {

class ProcessTree {
 public:
  using Clock = std::chrono::steady_clock;

  // The head is a child of this process.
  void own(int head, Cgroup cgroup);
  bool empty() const { return stage_ == Stage::kEmpty; }
  const ProcessId& head() const { return head_; }
  bool stopping() const { return stage_ != Stage::kEmpty && stage_ != Stage::kRuns; }

  // Reaps whatever has ended. The head's status, once.
  std::optional<ExitStatus> reap();

  // Asks the head to end, and kills what is left after `grace`. Called again, it can only be sooner.
  void stop(std::chrono::duration<double> grace);

  // Gets on with the end: called after reap() and whenever next_step() has passed. True once, when nothing
  // runs any more; what could not be killed is then in survivors().
  bool advance(Clock::time_point now);
  std::optional<Clock::time_point> next_step() const;
  const std::vector<ProcessId>& survivors() const { return survivors_; }

 private:
  enum class Stage {
    kEmpty,
    kRuns,
    kAsked,     // the head has SIGTERM
    kLeft,      // the head is gone
    kLeftover,  // and the rest has SIGTERM
    kKilled,    // all have SIGKILL
  };
  void kill_all() const;
  bool finish();

  Stage stage_ = Stage::kEmpty;
  ProcessId head_;
  bool head_reaped_ = false;
  Cgroup cgroup_;
  Clock::time_point deadline_;
  std::vector<ProcessId> survivors_;
};

}  // namespace flagscale::launch
