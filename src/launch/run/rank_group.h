#pragma once
// The ranks of a job from one start to the end of all of them, and again for the next: orders to their
// agents, what these report, which rank failed first.

#include <poll.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/agent/messages.h"
#include "launch/job.h"
#include "launch/record/run_record.h"
#include "launch/run/hang_watch.h"
#include "launch/run/live_output.h"
#include "launch/run/output_copies.h"
#include "launch/run/rank.h"
#include "launch/run/run_job.h"

namespace flagscale::launch {

inline constexpr double kPeersGrace = 10;  // s, for ranks that wait for one that has failed

// Of a start that did not end well.
struct Failure {
  int code = 1;        // the job's, if it is not started again
  bool final = false;  // a restart would not mend it
};

class RankGroup {
 public:
  using Clock = std::chrono::steady_clock;

  // All but the function outlive it. `shown`: the ranks' output comes on this process's own.
  RankGroup(const Job& job, const RunOptions& options, RunRecord& record, OpenLink open_link, bool shown);
  ~RankGroup();

  // Called once, when every rank has started.
  std::function<void()> on_running;

  const std::vector<NodeTask>& nodes() const { return nodes_; }
  void use(std::vector<NodeTask> nodes);  // others than before; nothing runs
  void start();                           // all, anew; throws where an agent cannot be reached
  void end(double grace, bool by_user);   // SIGTERM, after `grace` seconds SIGKILL
  bool gone() const;                      // nothing of them runs
  void part();                            // their agents, which have nothing left, end
  // Once gone: when what a host that went out of reach may still run has ended there too, so that nothing
  // starts beside it. In the past where no host did.
  Clock::time_point free_from() const { return free_from_; }

  void add_files(std::vector<pollfd>& files) const;  // to wait for
  void turn();                                       // hears what has come, and what has not come for long

  // Once gone: nothing where all ended with 0. Says, and puts on record, whose end was the first, with its
  // last lines and what they mean.
  std::optional<Failure> tell_failure();

 private:
  Order start_order(const Rank& rank) const;
  void hear(size_t rank);
  void on_report(size_t rank, const Report& report);
  void on_started(Rank& rank, const Report& report);
  void on_exit(size_t rank, const Report& report);
  void end_followers();
  void notice_a_start_from_nothing(const Rank& rank, const Report& report);
  void on_link_lost(size_t rank, const std::string& what);
  void on_host_lost(size_t rank);
  void pass_over_missed_time(Clock::time_point now);
  void look_for_hangs(Clock::time_point now);
  void fail(size_t rank, const std::string& what, double grace, int code, bool final);
  bool ended_by_us(const ExitStatus& status) const;
  void reap();
  void enter(RunState state);

  const Job& job_;
  const RunOptions& options_;
  RunRecord& record_;
  OpenLink open_link_;
  const bool shown_;
  LiveOutput output_;
  OutputCopies copies_;
  std::vector<NodeTask> nodes_;
  std::vector<Rank> ranks_;  // of these
  HangWatch hangs_;
  Clock::time_point looked_ = Clock::now(), ticked_ = looked_;

  int64_t reached_ = 0;  // the first rank's iteration, over all starts

  // Of the last start.
  int attempt_ = 0;
  RunState state_ = RunState::kStarting;
  bool ending_ = false, by_user_ = false;
  Clock::time_point kill_after_;  // what is asked to end now has until then
  Clock::time_point free_from_;
  Failure failure_;
  std::optional<size_t> first_failed_;  // that was heard of
};

}  // namespace flagscale::launch
