#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "engine/logits_scan.h"

namespace flagscale::engine {

namespace {

constexpr size_t kBlock = kLogitBlock;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Candidate {
  float value;
  int32_t id;
};
bool higher(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

struct Scratch {
  std::vector<float> weights, maxima, sorted;  // maxima: of blocks
  std::vector<Candidate> candidates;
};

int64_t size_of(std::span<const float> x) { return static_cast<int64_t>(x.size()); }

// The largest of all and of each block; NaN where a logit is NaN or +inf.
float scan(std::span<const float> x, std::vector<float>& maxima) {
  maxima.resize((x.size() + kBlock - 1) / kBlock);
  return logits_scan().blocks(x.data(), size_of(x), maxima.data());
}

// A bound that at least min(count, size) values reach and few others do: the count-th largest maximum of
// blocks.
float bound_of_best(const std::vector<float>& maxima, size_t count, std::vector<float>& sorted) {
  if (count == 0 || count > maxima.size()) return kMinusInfinity;
  sorted = maxima;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count - 1), sorted.end(),
                   std::greater<>());
  return sorted[count - 1];
}

void collect(std::span<const float> x, const std::vector<float>& maxima, float bound,
             std::vector<Candidate>& out) {
  out.clear();
  for (size_t block = 0; block < maxima.size(); ++block) {
    if (maxima[block] < bound) continue;
    const size_t begin = block * kBlock, end = std::min(begin + kBlock, x.size());
    for (size_t i = begin; i < end; ++i)
      if (x[i] >= bound) out.push_back({x[i], static_cast<int32_t>(i)});
  }
}

// The `count` highest of out, sorted.
void keep_best(std::vector<Candidate>& out, size_t count) {
  const auto end = out.begin() + static_cast<std::ptrdiff_t>(std::min(count, out.size()));
  std::partial_sort(out.begin(), end, out.end(), higher);
  out.erase(end, out.end());
}

// The shortest head of the highest that weighs `wanted`, sorted; returns what it weighs. Sorts no more than
// some times what it keeps.
double keep_nucleus(std::vector<Candidate>& out, double wanted) {
  constexpr size_t kFirst = 64, kGrowth = 4;
  double mass = 0;
  size_t count = 0;
  for (size_t sorted = 0; count == sorted && count < out.size();) {
    const auto begin = out.begin() + static_cast<std::ptrdiff_t>(sorted);
    sorted = std::min(out.size(), std::max(kFirst, kGrowth * sorted));
    const auto end = out.begin() + static_cast<std::ptrdiff_t>(sorted);
    if (end != out.end()) std::nth_element(begin, end, out.end(), higher);
    std::sort(begin, end, higher);
    for (; count < sorted && (count == 0 || mass < wanted); ++count)
      mass += static_cast<double>(out[count].value);
  }
  out.resize(count);
  return mass;
}

int32_t argmax(std::span<const float> x, const std::vector<float>& maxima, float top) {
  for (size_t block = 0; block < maxima.size(); ++block) {
    if (maxima[block] < top) continue;
    const size_t begin = block * kBlock, end = std::min(begin + kBlock, x.size());
    for (size_t i = begin; i < end; ++i)
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
  thread_local Scratch scratch;
  auto& [weights, maxima, sorted, candidates] = scratch;
  const float top = scan(logits, maxima);
  if (top == kMinusInfinity) return kNoToken;
  if (!std::isfinite(top)) return kNotNumbers;
  if (params.temperature <= 0) return argmax(logits, maxima, top);

  weights.resize(logits.size());
  const float scale = 1 / params.temperature;
  const double total = logits_scan().exponents(logits.data(), size_of(logits), top, scale, weights.data());
  // A block's largest weight is that of its largest logit.
  logits_scan().exponents(maxima.data(), size_of(maxima), top, scale, maxima.data());
  // Nothing under these bounds can be drawn: what is below total * (1 - top_p) / size sums to less than 1 -
  // top_p.
  const bool by_rank = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size(),
             by_mass = params.top_p < 1;
  float bound = std::max(params.min_p, std::numeric_limits<float>::min());
  if (by_rank)
    bound = std::max(bound, bound_of_best(maxima, static_cast<size_t>(params.top_k), sorted));
  else if (by_mass && params.min_p <= 0)
    bound = std::max(bound, static_cast<float>(total * (1 - static_cast<double>(params.top_p)) /
                                               static_cast<double>(logits.size())));
  collect(weights, maxima, bound, candidates);
  if (by_rank) keep_best(candidates, static_cast<size_t>(params.top_k));
  double mass = 0;
  for (const Candidate& c : candidates) mass += static_cast<double>(c.value);
  if (by_mass)
    mass = keep_nucleus(candidates,
                        static_cast<double>(params.top_p) * (by_rank || params.min_p > 0 ? mass : total));
  return pick(candidates, uniform(key) * mass);
}

bool are_numbers(std::span<const float> logits) {
  thread_local std::vector<float> maxima;
  return std::isfinite(scan(logits, maxima));
}

float log_sum_exp(std::span<const float> logits) {
  thread_local std::vector<float> maxima;
  const float top = scan(logits, maxima);
  if (!std::isfinite(top)) return top;
  return static_cast<float>(static_cast<double>(top) + std::log(logits_scan().exponents(
                                                           logits.data(), size_of(logits), top, 1, nullptr)));
}

int rank_of(std::span<const float> logits, int32_t id) {
  thread_local Scratch scratch;
  scan(logits, scratch.maxima);
  const Candidate own{logits[static_cast<size_t>(id)], id};
  collect(logits, scratch.maxima, own.value, scratch.candidates);
  return 1 + static_cast<int>(std::ranges::count_if(
                 scratch.candidates, [&own](const Candidate& other) { return higher(other, own); }));
}

std::vector<TokenLogprob> best_tokens(std::span<const float> logits, float lse, int count) {
  if (count <= 0) return {};
  thread_local Scratch scratch;
  const size_t wanted = std::min(static_cast<size_t>(count), logits.size());
  scan(logits, scratch.maxima);
  collect(logits, scratch.maxima, bound_of_best(scratch.maxima, wanted, scratch.sorted), scratch.candidates);
  keep_best(scratch.candidates, wanted);
  std::vector<TokenLogprob> best;
  for (const Candidate& c : scratch.candidates)
    best.push_back({c.id, c.value - lse, static_cast<int>(best.size()) + 1});
  return best;
}

}  // namespace flagscale::engine
