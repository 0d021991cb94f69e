#pragma once
// One rank's heartbeats on their way into the record: what is new, no oftener than it is worth a row.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "launch/agent/messages.h"
#include "launch/record/run_record.h"

namespace flagscale::launch {

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Progress(int rank) : rank_(rank) {}

  void beat(const Report& report, Clock::time_point now, RunRecord& record);
  void end(Clock::time_point now, RunRecord& record);  // the last of it

 private:
  void keep_metrics(Clock::time_point now, RunRecord& record);

  int rank_;
  std::string phase_;  // of the last heartbeat; "" before the first
  int64_t iteration_ = 0;
  bool steps_ = false;                     // it has begun to
  Clock::time_point noted_;                // when that was last written
  std::map<std::string, double> metrics_;  // that are not on record yet
  int64_t measured_ = -1;                  // the iteration that they are of
  std::optional<Clock::time_point> kept_;  // when they were last written
};

}  // namespace flagscale::launch
