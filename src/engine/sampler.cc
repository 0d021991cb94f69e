#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace flagscale::engine {

namespace {

constexpr size_t kBlock = 64;  // ids whose largest value is found at once
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Candidate {
  float value;
  int32_t id;
};
bool higher(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// exp(x) for x <= 0 to 2 ulp, written so that the compiler makes vectors of it; 0 below -87.
inline float exp_negative(float x) {
  const float clamped = x < -87.f ? -87.f : x;
  const float shifted = clamped * 1.44269504f + 12582912.f;  // round to the nearest integer
  const float n = shifted - 12582912.f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const float scale = std::bit_cast<float>((std::bit_cast<int32_t>(shifted) << 23) + (127 << 23));
  return x < -87.f ? 0.f : p * scale;
}

float largest(const float* x, size_t n) {
  float most[8];
  std::fill(most, most + 8, kMinusInfinity);
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (size_t j = 0; j < 8; ++j) most[j] = most[j] > x[i + j] ? most[j] : x[i + j];
  float result = kMinusInfinity;
  for (; i < n; ++i) result = std::max(result, x[i]);
  for (const float m : most) result = std::max(result, m);
  return result;
}

// NaN where one is.
float largest_or_nan(std::span<const float> x) {
  uint32_t nan[8] = {};
  float most[8];
  std::fill(most, most + 8, kMinusInfinity);
  size_t i = 0;
  for (; i + 8 <= x.size(); i += 8)
    for (size_t j = 0; j < 8; ++j) {
      const float value = x[i + j];
      most[j] = most[j] > value ? most[j] : value;
      nan[j] |= value != value ? 1u : 0u;
    }
  bool any = std::any_of(nan, nan + 8, [](uint32_t n) { return n != 0; });
  float result = *std::max_element(most, most + 8);
  for (; i < x.size(); ++i) {
    result = std::max(result, x[i]);
    any |= std::isnan(x[i]);
  }
  return any ? std::numeric_limits<float>::quiet_NaN() : result;
}

// weights[i] = exp((x[i] - top) * scale); returns their sum. weights may be null.
double exp_all(std::span<const float> x, float top, float scale, float* weights) {
  double total = 0;
  for (size_t begin = 0; begin < x.size(); begin += 4096) {
    const size_t n = std::min<size_t>(4096, x.size() - begin);
    const float* in = x.data() + begin;
    float piece[4096], sum[8] = {};
    float* out = weights ? weights + begin : piece;
    for (size_t i = 0; i < n; ++i) out[i] = exp_negative((in[i] - top) * scale);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
      for (size_t j = 0; j < 8; ++j) sum[j] += out[i + j];
    for (; i < n; ++i) total += static_cast<double>(out[i]);
    for (const float s : sum) total += static_cast<double>(s);
  }
  return total;
}

// A bound that at least min(count, size) values reach and few others do: the count-th largest maximum of
// blocks.
float bound_of_best(std::span<const float> x, size_t count, std::vector<float>& maxima) {
  maxima.clear();
  for (size_t begin = 0; begin < x.size(); begin += kBlock)
    maxima.push_back(largest(x.data() + begin, std::min(kBlock, x.size() - begin)));
  if (count == 0 || count > maxima.size()) return kMinusInfinity;
  std::nth_element(maxima.begin(), maxima.begin() + static_cast<std::ptrdiff_t>(count - 1), maxima.end(),
                   std::greater<>());
  return maxima[count - 1];
}

void collect(std::span<const float> x, float bound, std::vector<Candidate>& out) {
  out.clear();
  for (size_t begin = 0; begin < x.size(); begin += kBlock) {
    const size_t n = std::min(kBlock, x.size() - begin);
    if (largest(x.data() + begin, n) < bound) continue;
    for (size_t i = begin; i < begin + n; ++i)
      if (x[i] >= bound) out.push_back({x[i], static_cast<int32_t>(i)});
  }
}

// The `count` highest of out, sorted.
void keep_best(std::vector<Candidate>& out, size_t count) {
  const auto end = out.begin() + static_cast<std::ptrdiff_t>(std::min(count, out.size()));
  std::partial_sort(out.begin(), end, out.end(), higher);
  out.erase(end, out.end());
}

int32_t argmax(std::span<const float> x, float top) {
  for (size_t begin = 0; begin < x.size(); begin += kBlock) {
    const size_t n = std::min(kBlock, x.size() - begin);
    if (largest(x.data() + begin, n) < top) continue;
    for (size_t i = begin; i < begin + n; ++i)
      if (x[i] == top) return static_cast<int32_t>(i);
  }
  return 0;
}

// The first whose running sum passes `left`, in the given order.
int32_t pick(std::span<const Candidate> candidates, double left) {
  for (const Candidate& c : candidates) {
    left -= static_cast<double>(c.value);
    if (left < 0) return c.id;
  }
  return candidates.back().id;
}

struct Scratch {
  std::vector<float> weights, maxima;
  std::vector<Candidate> candidates;
};

}  // namespace

double uniform(const DrawKey& key) {
  const auto position = static_cast<uint64_t>(key.position);
  uint32_t x[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0x73616d70u,
                   key.choice};
  uint32_t key0 = static_cast<uint32_t>(key.seed), key1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
    const uint64_t a = uint64_t{0xD2511F53u} * x[0], b = uint64_t{0xCD9E8D57u} * x[2];
    const uint32_t x1 = x[1], x3 = x[3];
    x[0] = static_cast<uint32_t>(b >> 32) ^ x1 ^ key0;
    x[1] = static_cast<uint32_t>(b);
    x[2] = static_cast<uint32_t>(a >> 32) ^ x3 ^ key1;
    x[3] = static_cast<uint32_t>(a);
  }
  return (static_cast<double>(x[0]) * 0x1p-32 + static_cast<double>(x[1] >> 11) * 0x1p-53);
}

int32_t sample(std::span<const float> logits, const SamplingParams& params, const DrawKey& key) {
  const float top = largest_or_nan(logits);
  if (top == kMinusInfinity) return kNoToken;
  if (!std::isfinite(top)) return kNotNumbers;
  if (params.temperature <= 0) return argmax(logits, top);

  thread_local Scratch scratch;
  auto& [weights, maxima, candidates] = scratch;
  weights.resize(logits.size());
  const double total = exp_all(logits, top, 1 / params.temperature, weights.data());
  // Nothing under these bounds can be drawn: what is below total * (1 - top_p) / size sums to less than 1 -
  // top_p.
  const bool by_rank = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size(),
             by_mass = params.top_p < 1;
  float bound = std::max(params.min_p, std::numeric_limits<float>::min());
  if (by_rank)
    bound = std::max(bound, bound_of_best(weights, static_cast<size_t>(params.top_k), maxima));
  else if (by_mass && params.min_p <= 0)
    bound = std::max(bound, static_cast<float>(total * (1 - static_cast<double>(params.top_p)) /
                                               static_cast<double>(logits.size())));
  collect(weights, bound, candidates);
  if (by_rank || by_mass)
    keep_best(candidates, by_rank ? static_cast<size_t>(params.top_k) : candidates.size());

  double mass = 0;
  for (const Candidate& c : candidates) mass += static_cast<double>(c.value);
  if (by_mass) {  // the shortest head that holds top_p of what is left
    const double wanted = static_cast<double>(params.top_p) * (by_rank || params.min_p > 0 ? mass : total);
    size_t count = 0;
    for (mass = 0; count < candidates.size() && (count == 0 || mass < wanted); ++count)
      mass += static_cast<double>(candidates[count].value);
    candidates.resize(count);
  }
  return pick(candidates, uniform(key) * mass);
}

bool are_numbers(std::span<const float> logits) { return std::isfinite(largest_or_nan(logits)); }

float log_sum_exp(std::span<const float> logits) {
  const float top = largest(logits.data(), logits.size());
  return static_cast<float>(static_cast<double>(top) + std::log(exp_all(logits, top, 1, nullptr)));
}

std::vector<TokenLogprob> best_tokens(std::span<const float> logits, float lse, int count) {
  if (count <= 0) return {};
  thread_local Scratch scratch;
  const size_t wanted = std::min(static_cast<size_t>(count), logits.size());
  collect(logits, bound_of_best(logits, wanted, scratch.maxima), scratch.candidates);
  keep_best(scratch.candidates, wanted);
  std::vector<TokenLogprob> best;
  for (const Candidate& c : scratch.candidates)
    best.push_back({c.id, c.value - lse, static_cast<int>(best.size()) + 1});
  return best;
}

}  // namespace flagscale::engine
