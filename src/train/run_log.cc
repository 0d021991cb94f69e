#include "train/run_log.h"

#include <algorithm>
#include <vector>

#include "base/heartbeat.h"
#include "base/progress.h"
#include "base/transcript.h"

namespace flagscale::train {

void RunLog::open_events(const Allocator& allocator) {
  if (!options_.tensorboard_dir.empty() && first_)
    events_ = std::make_unique<TrainingEvents>(options_.tensorboard_dir, options_.events, allocator);
}

void RunLog::start(std::FILE* out) {
  out_ = out;
  start_ = Clock::now();
}

void RunLog::count_update(const Outcome& outcome) {
  loss_ += outcome.loss.value_or(0);
  router_.balance += outcome.router.balance, router_.z += outcome.router.z;
  ++losses_;
}

// What a log line and an event file have alike.
StepReport RunLog::report(const Progression& at, int64_t iterations, int64_t batch,
                          const Outcome& outcome) const {
  StepReport r;
  r.iteration = at.iteration, r.train_iters = iterations;
  r.consumed_samples = at.consumed_samples, r.skipped_samples = at.skipped_samples;
  r.learning_rate = learning_rate(options_.lr, at.schedule_samples);
  r.global_batch_size = batch;
  r.lm_loss = outcome.loss;
  r.grad_norm = outcome.norm;
  r.num_zeros = outcome.zeros;
  if (options_.balance_loss > 0) r.load_balancing_loss = outcome.router.balance;
  if (options_.z_loss > 0) r.z_loss = outcome.router.z;
  r.params_norm = outcome.params_norm;
  return r;
}

// Of the iterations since the last line; the norms are this one's.
void RunLog::interval(StepReport r, int64_t batch) {
  r.lm_loss.reset();
  if (losses_ > 0) r.lm_loss = loss_ / static_cast<double>(losses_);
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count() /
                         static_cast<double>(std::max<int64_t>(iterations_, 1));
  r.ms_per_iteration = seconds * 1e3;
  const auto counted = static_cast<double>(std::max<int64_t>(losses_, 1));
  if (options_.balance_loss > 0) r.load_balancing_loss = router_.balance / counted;
  if (options_.z_loss > 0) r.z_loss = router_.z / counted;
  if (options_.log_throughput)
    r.tflops = step_.decoder().train_flops_per_token(options_.seq_length) *
               static_cast<double>(batch * options_.seq_length) / seconds / ranks_ * 1e-12;
  r.skipped_iterations = skipped_, r.nan_iterations = nan_;
  print(log_line(r, time_now()));
  if (events_) events_->interval(r);
  loss_ = 0;
  router_ = {};
  losses_ = iterations_ = skipped_ = nan_ = 0;
  start_ = Clock::now();
}

void RunLog::metrics(const StepReport& r, int64_t batch, double seconds) const {
  if (!first_) return;
  std::vector<Metric> told{{"consumed_samples", static_cast<double>(r.consumed_samples)},
                           {"learning_rate", r.learning_rate},
                           {"tokens_per_second", static_cast<double>(batch * options_.seq_length) / seconds}};
  if (r.lm_loss) told.push_back({"lm_loss", *r.lm_loss});
  if (r.grad_norm) told.push_back({"grad_norm", *r.grad_norm});
  report_metrics(told);
}

void RunLog::iteration(const Progression& at, int64_t iterations, int64_t batch, const Outcome& outcome,
                       double seconds) {
  ++iterations_;
  const StepReport r = report(at, iterations, batch, outcome);
  if (events_ && is_an_event(at.iteration)) events_->step(r);  // of this iteration alone
  if (is_logged(at.iteration)) interval(r, batch);
  metrics(r, batch, seconds);
}

void RunLog::validation(const std::string& prefix, double loss) { print(validation_line(prefix, loss)); }

void RunLog::validation_event(const Progression& at, double loss) {
  if (events_) events_->validation(at.iteration, at.consumed_samples, loss);
}

void RunLog::print(const std::string& line) {
  if (!first_) return;
  Progress::clear_line();
  say(out_, "{}\n", line);
  std::fflush(out_);
}

}  // namespace flagscale::train
