#include "train/log_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace flagscale::train {

namespace {
double python(double x) { return std::isnan(x) ? std::fabs(x) : x; }  // which prints no sign of a NaN
}  // namespace

std::string log_line(const StepReport& r, const std::string& time) {
  std::string line = fmt::format(" [{}] iteration {:8}/{:8} | consumed samples: {:12} |", time, r.iteration,
                                 r.train_iters, r.consumed_samples);
  if (r.skipped_samples > 0) line += fmt::format(" skipped samples: {:12} |", r.skipped_samples);
  line += fmt::format(" elapsed time per iteration (ms): {:.1f} |", r.ms_per_iteration);
  if (r.tflops) line += fmt::format(" throughput per GPU (TFLOP/s/GPU): {:.1f} |", *r.tflops);
  line +=
      fmt::format(" learning rate: {:.6E} | global batch size: {:5} |", r.learning_rate, r.global_batch_size);
  if (r.lm_loss) line += fmt::format(" lm loss: {:.6E} |", python(*r.lm_loss));
  if (r.load_balancing_loss > 0) line += fmt::format(" load_balancing_loss: {:.6E} |", r.load_balancing_loss);
  if (r.z_loss > 0) line += fmt::format(" z_loss: {:.6E} |", r.z_loss);
  line += fmt::format(" loss scale: {:.1f} |", r.loss_scale);
  if (r.grad_norm) line += fmt::format(" grad norm: {:.3f} |", python(*r.grad_norm));
  if (r.num_zeros) line += fmt::format(" num zeros: {:.1f} |", *r.num_zeros);
  if (r.params_norm) line += fmt::format(" params norm: {:.3f} |", python(*r.params_norm));
  line += fmt::format(" number of skipped iterations: {:3} | number of nan iterations: {:3} |",
                      r.skipped_iterations, r.nan_iterations);
  return line;
}

std::string validation_line(const std::string& prefix, double lm_loss) {
  const double perplexity = std::exp(std::min(20.0, lm_loss));
  const std::string text =
      fmt::format(" validation loss at {} | lm loss value: {:.6E} | lm loss PPL: {:.6E} | ", prefix,
                  python(lm_loss), python(perplexity));
  const std::string rule(text.size() + 1, '-');
  return rule + "\n" + text + "\n" + rule;
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &local);
  return buffer;
}

}  // namespace flagscale::train
