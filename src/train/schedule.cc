#include "train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace flagscale::train {

namespace {

using std::numbers::pi;

template <size_t N>
void check_style(const char* key, const std::string& style, const std::array<const char*, N>& known) {
  if (std::find(known.begin(), known.end(), style) != known.end()) return;
  std::string names;
  for (const char* name : known) names += (names.empty() ? "" : ", ") + std::string(name);
  fail(ErrorKind::kConfig, "{} is '{}'; known: {}", key, style, names);
}

double ratio(int64_t part, int64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

double wsd_coefficient(const LrSchedule& s, int64_t samples) {
  const int64_t start = s.decay_samples - s.wsd_decay_samples;
  if (samples <= start) return 1;
  const double r = ratio(samples - start, s.wsd_decay_samples);
  if (s.wsd_style == "linear") return 1 - r;
  if (s.wsd_style == "cosine") return 0.5 * (std::cos(pi * r) + 1);
  if (s.wsd_style == "exponential") return 2 * std::pow(0.5, r) - 1;
  return 1 - std::sqrt(r);
}

double rsqrt_lr(const LrSchedule& s, int64_t samples) {
  return s.stablelm2.alpha / std::sqrt(ratio(samples, s.global_batch_size) + s.stablelm2.beta);
}

double stablelm2_lr(const LrSchedule& s, int64_t samples) {
  const Stablelm2Schedule& t = s.stablelm2;
  if (samples <= t.cosine_samples) {
    const int64_t period = t.cosine_period_samples > 0 ? t.cosine_period_samples : s.decay_samples;
    const double low = 0.1 * t.cosine_max_lr;
    return low + (t.cosine_max_lr - low) * 0.5 * (std::cos(2 * pi * ratio(samples, period)) + 1);
  }
  const int64_t rsqrt_end = t.cosine_samples + t.rsqrt_samples;
  if (samples <= rsqrt_end) return rsqrt_lr(s, samples);
  // The rate of the last whole batch in the rsqrt phase, which FlagScale remembers and loses on resume.
  const double from = rsqrt_lr(s, rsqrt_end / s.global_batch_size * s.global_batch_size);
  if (t.decay_samples <= 0) return from * (1 - ratio(samples - rsqrt_end, s.decay_samples - rsqrt_end));
  const int64_t end = std::min(s.decay_samples, rsqrt_end + t.decay_samples);
  if (samples > end) return s.min_lr;
  return s.min_lr + (from - s.min_lr) * (1 - ratio(samples - rsqrt_end, end - rsqrt_end));
}

}  // namespace

void validate(const LrSchedule& s) {
  check_style(
      "lr_decay_style", s.style,
      std::array{"constant", "linear", "cosine", "inverse-square-root", "WSD", "stablelm2-scheduler"});
  if (s.style == "WSD") {
    check_style("lr_wsd_decay_style", s.wsd_style,
                std::array{"linear", "cosine", "exponential", "minus_sqrt"});
    if (s.wsd_decay_samples <= 0)
      fail(ErrorKind::kConfig, "lr_decay_style WSD needs lr_wsd_decay_samples or lr_wsd_decay_iters");
  }
  if (!(s.lr >= s.min_lr && s.min_lr >= 0))
    fail(ErrorKind::kConfig, "lr is {}, min_lr is {}: expected lr >= min_lr >= 0", s.lr, s.min_lr);
  if (s.warmup_init > s.lr)
    fail(ErrorKind::kConfig, "lr_warmup_init is {}, above lr {}", s.warmup_init, s.lr);
  if (s.decay_samples <= 0)
    fail(ErrorKind::kConfig, "the learning rate decays over {} samples; set train_samples or train_iters",
         s.decay_samples);
  if (s.warmup_samples >= s.decay_samples)
    fail(ErrorKind::kConfig,
         "lr warm-up takes {} samples, the decay ends after {}: shorten lr_warmup_samples (or _iters, "
         "_fraction)",
         s.warmup_samples, s.decay_samples);
  const int64_t cosine_end = s.stablelm2.cosine_samples, rsqrt_end = cosine_end + s.stablelm2.rsqrt_samples;
  for (const int64_t samples : {int64_t{0}, s.warmup_samples, cosine_end + 1, rsqrt_end + 1, s.decay_samples})
    if (!std::isfinite(learning_rate(s, samples)))
      fail(
          ErrorKind::kConfig,
          "lr_decay_style {}: the learning rate after {} samples is {}; check the schedule's alpha, beta and "
          "phases",
          s.style, samples, learning_rate(s, samples));
}

void validate(const WeightDecaySchedule& s) {
  check_style("weight_decay_incr_style", s.style, std::array{"constant", "linear", "cosine"});
  if (s.start < 0 || s.end < s.start)
    fail(ErrorKind::kConfig, "weight decay goes from {} to {}: expected 0 <= start <= end", s.start, s.end);
}

double learning_rate(const LrSchedule& s, int64_t samples) {
  if (s.warmup_samples > 0 && samples <= s.warmup_samples)
    return s.warmup_init + (s.lr - s.warmup_init) * ratio(samples, s.warmup_samples);
  if (s.style == "constant") return s.lr;
  if (samples > s.decay_samples) return s.min_lr;
  if (s.style == "inverse-square-root") {
    const auto warmup = static_cast<double>(std::max<int64_t>(s.warmup_samples, 1));
    return std::max(s.min_lr,
                    s.lr * std::sqrt(warmup) / std::sqrt(static_cast<double>(std::max<int64_t>(samples, 1))));
  }
  if (s.style == "stablelm2-scheduler") return stablelm2_lr(s, samples);
  const double r = ratio(samples - s.warmup_samples, s.decay_samples - s.warmup_samples);
  double coefficient = 1 - r;
  if (s.style == "cosine") coefficient = 0.5 * (std::cos(pi * r) + 1);
  if (s.style == "WSD") coefficient = wsd_coefficient(s, samples);
  return s.min_lr + coefficient * (s.lr - s.min_lr);
}

double weight_decay(const WeightDecaySchedule& s, int64_t samples) {
  if (s.style == "constant" || samples > s.increase_samples || s.increase_samples <= 0) return s.end;
  const double r = ratio(samples, s.increase_samples);
  return s.start + (s.style == "linear" ? r : 0.5 * (std::cos(pi * (1 - r)) + 1)) * (s.end - s.start);
}

}  // namespace flagscale::train
