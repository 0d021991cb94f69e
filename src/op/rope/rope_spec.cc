#include "op/rope/rope_spec.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace flagscale::op {

namespace {

using std::numbers::pi;

double yarn_mscale(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

// Long wavelengths are stretched, short ones kept, those between blended (Llama 3.1).
double llama3(const RopeSpec& spec, double frequency) {
  const auto original = static_cast<double>(spec.original_max_positions);
  const double wavelength = 2 * pi / frequency;
  if (wavelength < original / spec.high_freq_factor) return frequency;
  if (wavelength > original / spec.low_freq_factor) return frequency / spec.factor;
  const double smooth =
      (original / wavelength - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
  return (1 - smooth) * frequency / spec.factor + smooth * frequency;
}

// Peng et al., "YaRN", 2023: interpolation for slow dimensions, extrapolation for fast ones, a ramp between.
void yarn(const RopeSpec& spec, std::vector<double>& frequencies) {
  const auto original = static_cast<double>(spec.original_max_positions);
  const auto dim_of = [&](double rotations) {
    return spec.head_dim * std::log(original / (rotations * 2 * pi)) / (2 * std::log(spec.theta));
  };
  double low = dim_of(spec.beta_fast), high = dim_of(spec.beta_slow);
  if (spec.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, static_cast<double>(spec.head_dim - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / spec.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

template <class F>
void fill(const RopeSpec& spec, int64_t positions, float* out, F function) {
  const std::vector<double> frequencies = rope_frequencies(spec);
  const auto factor = static_cast<float>(spec.attention_factor);
  for (int64_t p = 0; p < positions; ++p)
    for (const double frequency : frequencies)
      *out++ = function(static_cast<float>(p) * static_cast<float>(frequency)) * factor;
}

}  // namespace

void set_rope_scaling(RopeSpec& spec, const std::string& type, const RopeScalingValues& v) {
  spec.type = type;
  if (type == "default" || type == "mrope") return void(spec.type = "default");
  if (type != "linear" && type != "llama3" && type != "yarn")
    fail(ErrorKind::kUnsupported,
         "rope_scaling type '{}' is not supported; supported: default, linear, llama3, yarn", type);
  if (!(v.factor >= 1))
    fail(ErrorKind::kCorrupt, "rope_scaling: factor is {}, expected at least 1", v.factor);
  spec.factor = v.factor;
  spec.low_freq_factor = v.low_freq_factor;
  spec.high_freq_factor = v.high_freq_factor;
  spec.original_max_positions = v.original_max_positions;
  spec.beta_fast = v.beta_fast;
  spec.beta_slow = v.beta_slow;
  spec.truncate = v.truncate;
  if (type != "linear" && v.original_max_positions <= 0)
    fail(ErrorKind::kCorrupt, "rope_scaling: original_max_position_embeddings is {}",
         v.original_max_positions);
  if (type == "llama3" && !(v.high_freq_factor > v.low_freq_factor && v.low_freq_factor > 0))
    fail(ErrorKind::kCorrupt, "rope_scaling: high_freq_factor {} must be above low_freq_factor {}",
         v.high_freq_factor, v.low_freq_factor);
  if (type != "yarn") return;
  if (v.attention_factor > 0)
    spec.attention_factor = v.attention_factor;
  else if (v.mscale > 0 && v.mscale_all_dim > 0)
    spec.attention_factor = yarn_mscale(v.factor, v.mscale) / yarn_mscale(v.factor, v.mscale_all_dim);
  else
    spec.attention_factor = yarn_mscale(v.factor, 1);
}

std::vector<double> rope_frequencies(const RopeSpec& spec) {
  std::vector<double> frequencies;
  for (int i = 0; i < spec.head_dim; i += 2)
    frequencies.push_back(1.0 / std::pow(spec.theta, static_cast<double>(i) / spec.head_dim));
  if (spec.type == "yarn") yarn(spec, frequencies);
  for (double& frequency : frequencies) {
    if (spec.type == "linear") frequency /= spec.factor;
    if (spec.type == "llama3") frequency = llama3(spec, frequency);
  }
  return frequencies;
}

void fill_rope_cos(const RopeSpec& spec, int64_t positions, float* out) {
  fill(spec, positions, out, [](float angle) { return std::cos(angle); });
}
void fill_rope_sin(const RopeSpec& spec, int64_t positions, float* out) {
  fill(spec, positions, out, [](float angle) { return std::sin(angle); });
}

}  // namespace flagscale::op
