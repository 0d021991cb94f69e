#include "train/training_events.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"

namespace flagscale::train {

template <class Write>
void TrainingEvents::attempt(Write write) {
  if (failed_) return;
  try {
    write();
    writer_.flush();
  } catch (const Error& error) {
    failed_ = true;
    warn("{}; the training goes on without event files", error.what());
  }
}

void TrainingEvents::both(const std::string& tag, double value, const StepReport& report) {
  writer_.scalar(tag, value, report.iteration);
  writer_.scalar(tag + " vs samples", value, report.consumed_samples);
}

void TrainingEvents::step(const StepReport& r) {
  attempt([&] { write_step(r); });
}

void TrainingEvents::write_step(const StepReport& r) {
  both("learning-rate", r.learning_rate, r);
  if (r.skipped_samples > 0)
    writer_.scalar("skipped-train-samples", static_cast<double>(r.skipped_samples), r.iteration);
  both("batch-size", static_cast<double>(r.global_batch_size), r);
  if (r.lm_loss) both("lm loss", *r.lm_loss, r);
  if (r.load_balancing_loss > 0) writer_.scalar("load_balancing_loss", r.load_balancing_loss, r.iteration);
  if (r.z_loss > 0) writer_.scalar("z_loss", r.z_loss, r.iteration);
  if (!keys_.no_loss_scale) both("loss-scale", r.loss_scale, r);
  if (keys_.world_size) both("world-size", keys_.ranks, r);
  if (r.grad_norm) both("grad-norm", *r.grad_norm, r);
  if (r.num_zeros) both("num-zeros", *r.num_zeros, r);
  if (r.params_norm) both("params-norm", *r.params_norm, r);
  if (keys_.memory) {
    const auto now = static_cast<double>(allocator_.allocated());
    writer_.scalar("mem-reserved-bytes", now, r.iteration);
    writer_.scalar("mem-allocated-bytes", now, r.iteration);
    writer_.scalar("mem-max-allocated-bytes", static_cast<double>(allocator_.peak()), r.iteration);
    writer_.scalar("mem-allocated-count", 1, r.iteration);
  }
}

void TrainingEvents::interval(const StepReport& r) {
  if (!keys_.timers) return;
  attempt([&] {
    writer_.scalar("iteration-time", r.ms_per_iteration * 1e-3, r.iteration);
    if (r.tflops) writer_.scalar("throughput", *r.tflops, r.iteration);
  });
}

void TrainingEvents::validation(int64_t iteration, int64_t consumed_samples, double lm_loss) {
  StepReport r;
  r.iteration = iteration, r.consumed_samples = consumed_samples;
  attempt([&] {
    both("lm loss validation", lm_loss, r);
    if (keys_.validation_ppl) both("lm loss validation ppl", std::exp(std::min(20.0, lm_loss)), r);
  });
}

}  // namespace flagscale::train
