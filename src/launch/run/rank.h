#pragma once
// One rank as its supervisor knows it: its agent, which outlives the ends of what it starts, and what became
// of the last start.

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "launch/agent/cgroup.h"
#include "launch/agent/link.h"
#include "launch/diagnosis/ending.h"
#include "launch/job.h"
#include "launch/run/progress.h"
#include "launch/run/rank_link.h"
#include "launch/run/watch.h"

namespace flagscale::launch {

struct Rank {
  using Clock = std::chrono::steady_clock;

  explicit Rank(const NodeTask& its_task) : task(&its_task) {}

  std::string place() const;          // "rank 1 on host b"
  void open(const OpenLink& way_to);  // its agent; throws what that throws
  void reap();                        // the child that was its link, where it has ended
  void forget_start();                // what became of the last start
  // Its end, now. by_us: as another one had failed.
  void exited(const ExitStatus& its_status, const std::string& said, bool by_us);
  void ends(Ending::How how, int value, bool by_us);

  const NodeTask* task;
  std::unique_ptr<RankLink> link;
  pid_t way = 0;  // the child that is or was the link, until it is reaped
  ProcessId agent;
  Cgroup cgroup;  // on this machine
  bool local = false;
  bool gone = true;  // nothing of it runs

  // Of the last start.
  bool started = false;
  std::optional<ExitStatus> status;
  std::optional<Ending> ending;                  // for the diagnosis
  std::string what;                              // of its end, for people
  int code = 0;                                  // for the job's own exit code
  std::optional<Clock::time_point> surely_gone;  // of a host that is out of reach
  std::optional<Watch> watch;
  std::optional<Progress> progress;
};

}  // namespace flagscale::launch
