#pragma once
// Follows one run of a job from its first start to its end.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "launch/job.h"
#include "launch/record/run_record.h"
#include "launch/run/gathering.h"
#include "launch/run/rank_group.h"
#include "launch/run/run_job.h"

namespace flagscale::launch {

class Supervisor {
 public:
  Supervisor(const Job& job, const RunOptions& options, RunRecord& record, OpenLink open_link, bool shown);

  // Until nothing of the job runs any more. `signals`: a signalfd of SIGINT, SIGTERM and SIGHUP.
  // `on_running` is called once, when every rank has started.
  int run(int signals, std::function<void()> on_running);

 private:
  void begin();  // for the first time or anew: elastic jobs find their hosts first
  void begin_again();
  void start_on_those_there();
  void turn(int signals);
  void on_signal(int number);
  void settle();  // once nothing runs: finished, or start anew
  void could_not_begin(const std::string& why, int code);
  void finish(RunState state, int code);

  const Job& job_;
  const RunOptions& options_;
  RunRecord& record_;
  OpenLink open_link_;
  RankGroup ranks_;
  std::unique_ptr<Gathering> gathering_;
  std::optional<Failure> no_start_;                    // why it could not begin has been told
  std::optional<RankGroup::Clock::time_point> again_;  // when it is to begin again
  int stop_signal_ = 0, restarts_ = 0, code_ = 0;
  bool finished_ = false;
};

}  // namespace flagscale::launch
