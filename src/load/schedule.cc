#include "load/schedule.h"

#include <cmath>
#include <random>

#include "base/error.h"

namespace flagscale::load {

void check(const RateOptions& o) {
  if (!(o.rate > 0)) fail(ErrorKind::kInvalidArgument, "--request-rate must be above 0, got {}", o.rate);
  if (!(o.burstiness > 0))
    fail(ErrorKind::kInvalidArgument, "--burstiness must be above 0, got {}", o.burstiness);
  if (o.ramp_up.empty()) return;
  if (!std::isinf(o.rate))
    fail(ErrorKind::kInvalidArgument, "--ramp-up-strategy sets the rate: leave --request-rate out");
  if (!(o.ramp_end > 0) || o.ramp_start < 0 || o.ramp_start > o.ramp_end)
    fail(ErrorKind::kInvalidArgument,
         "--ramp-up-strategy needs 0 <= --ramp-up-start-rps <= --ramp-up-end-rps");
  if (o.ramp_start <= 0 && o.ramp_up == "exponential")
    fail(ErrorKind::kInvalidArgument, "an exponential ramp cannot start at 0: --ramp-up-start-rps 1");
}

namespace {

double rate_at(const RateOptions& o, size_t index, size_t count) {
  if (o.ramp_up.empty()) return o.rate;
  const double share = static_cast<double>(index) / static_cast<double>(count > 1 ? count - 1 : 1);
  if (o.ramp_up == "linear") return std::max(o.ramp_start + (o.ramp_end - o.ramp_start) * share, 1e-3);
  return o.ramp_start * std::pow(o.ramp_end / o.ramp_start, share);
}

}  // namespace

std::vector<double> send_times(const RateOptions& o, size_t count, uint64_t seed) {
  check(o);
  std::mt19937_64 random(seed);
  std::vector<double> times;
  double at = 0;
  for (size_t i = 0; i < count; ++i) {
    const double rate = rate_at(o, i, count);
    if (std::isinf(rate))
      at = 0;
    else if (std::isinf(o.burstiness))
      at += 1 / rate;
    else
      at += std::gamma_distribution<double>(o.burstiness, 1 / (rate * o.burstiness))(random);
    times.push_back(at);
  }
  if (o.ramp_up.empty() && at > 0)
    for (double& time : times) time *= static_cast<double>(count) / o.rate / at;
  return times;
}

}  // namespace flagscale::load
