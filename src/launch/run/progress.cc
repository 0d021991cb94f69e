#include "launch/run/progress.h"

#include <utility>

namespace flagscale::launch {

namespace {

constexpr std::chrono::seconds kNoteProgress{1}, kKeepMetrics{10};

}  // namespace

void Progress::beat(const Report& report, Clock::time_point now, RunRecord& record) {
  if (!report.metrics.empty() && report.iteration != measured_)
    metrics_ = report.metrics, measured_ = report.iteration;
  if (!kept_ || now - *kept_ >= kKeepMetrics) keep_metrics(now, record);
  const bool begins = !steps_ && report.phase != phase_;  // a load, or a first step, of minutes
  phase_ = report.phase, iteration_ = report.iteration;
  steps_ = steps_ || phase_ == "step";
  if (!begins && now - noted_ < kNoteProgress) return;
  noted_ = now;
  record.progress(rank_, phase_, iteration_);
}

void Progress::end(Clock::time_point now, RunRecord& record) {
  keep_metrics(now, record);
  if (!phase_.empty()) record.progress(rank_, phase_, iteration_);
}

void Progress::keep_metrics(Clock::time_point now, RunRecord& record) {
  if (metrics_.empty()) return;
  record.metrics(rank_, measured_, std::exchange(metrics_, {}));
  kept_ = now;
}

}  // namespace flagscale::launch
