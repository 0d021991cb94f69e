#pragma once
// Follows one run of a job from its first start to its end.

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/agent/cgroup.h"
#include "launch/diagnosis/ending.h"
#include "launch/job.h"
#include "launch/record/run_record.h"
#include "launch/run/gathering.h"
#include "launch/run/live_output.h"
#include "launch/run/rank_link.h"
#include "launch/run/run_job.h"
#include "launch/run/watch.h"

namespace flagscale::launch {

class Supervisor {
 public:
  Supervisor(const Job& job, const RunOptions& options, RunRecord& record, OpenLink open_link, bool shown);
  ~Supervisor();

  // Called once, when every rank has started.
  std::function<void()> on_running;

  // Until nothing of the job runs any more. `signals`: a signalfd of SIGINT, SIGTERM and SIGHUP.
  int run(int signals);

  // Why the run failed; "" where it did not.
  const std::string& failure() const { return failure_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Rank {
    const NodeTask* task = nullptr;
    std::unique_ptr<RankLink> link;
    pid_t way = 0;  // the child that was the link, until it is reaped
    ProcessId agent, process;
    Cgroup cgroup;  // on this machine
    bool local = false, started = false, gone = true;
    std::optional<ExitStatus> status;
    // Of its end: for the diagnosis, for people, for the job's own exit code.
    std::optional<Ending> ending;
    std::string what;
    int code = 0;
    std::optional<Clock::time_point> surely_gone;  // a host that is out of reach
    std::optional<Watch> watch;
    std::string phase;  // of its last heartbeat
    int64_t iteration = 0;
    Clock::time_point noted;                // when that was last written
    std::map<std::string, double> metrics;  // that are not on record yet
    int64_t measured = -1;                  // the iteration that they are of
    std::optional<Clock::time_point> kept;  // when they were last written
  };

  void begin();  // for the first time or anew: elastic jobs find their hosts first
  void start_on_those_there();
  void start_all();
  void open(size_t rank);
  void turn(int signals);
  void on_signal(int number);
  void receive(size_t rank);
  void on_report(size_t rank, const Report& report);
  void on_exit(size_t rank, const Report& report);
  void on_beat(Rank& rank, const Report& report);
  void keep_metrics(Rank& rank);
  void on_link_lost(size_t rank, const std::string& what);
  void reap_ways();
  void keep_time();
  void look_for_silence(Clock::time_point now);
  void write_hang_report();
  void fail_rank(size_t rank, const std::string& what, double grace, int code, bool final);
  bool ended_by_us(const ExitStatus& status) const;
  void tell_culprit();
  void end_all(double grace, bool by_user);
  void settle();  // once nothing runs: finished, or start anew
  void part();
  bool all_gone() const;
  std::string place(size_t rank) const;  // "rank 1 on host b"

  const Job& job_;
  const RunOptions& options_;
  RunRecord& record_;
  OpenLink open_link_;
  const bool shown_;
  LiveOutput output_;
  std::vector<NodeTask> nodes_;
  std::vector<Rank> ranks_;  // of these
  std::unique_ptr<Gathering> gathering_;
  RunState state_ = RunState::kStarting;
  void enter(RunState state);

  bool ending_ = false, finished_ = false, final_ = false;
  int stop_signal_ = 0, attempt_ = 0, restarts_ = 0, code_ = 0;
  std::string failure_;
  std::optional<size_t> culprit_;  // the first that was heard of, until all have ended
  Clock::time_point kill_after_;   // what is asked to end now has until then
  Clock::time_point looked_ = Clock::now(), ticked_ = looked_;

  struct HangReport {
    std::string text;
    size_t waiting = 0;
    Clock::time_point due;
  };
  std::optional<HangReport> hang_;
  std::optional<size_t> hung_;
};

}  // namespace flagscale::launch
