#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace flagscale::engine {

const char* name(FinishReason reason) {
  constexpr const char* kNames[] = {"", "stop", "length"};
  return kNames[static_cast<int>(reason)];
}

double uniform(uint64_t seed, int64_t position) {
  uint32_t x[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(static_cast<uint64_t>(position) >> 32), 0x73616d70u, 0};
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
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

int32_t sample(std::span<const float> logits, const SamplingParams& params, int64_t position) {
  const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (params.temperature <= 0) return best;

  struct Candidate {
    float logit;
    int32_t id;
  };
  std::vector<Candidate> candidates(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates[i] = {logits[i], static_cast<int32_t>(i)};
  const auto higher = [](const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); };
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + params.top_k, candidates.end(), higher);
    candidates.resize(static_cast<size_t>(params.top_k));
  }
  std::sort(candidates.begin(), candidates.end(), higher);

  std::vector<double> weights;
  double total = 0;
  const double top = static_cast<double>(candidates[0].logit), temperature = static_cast<double>(params.temperature);
  for (const Candidate& c : candidates) {
    weights.push_back(std::exp((static_cast<double>(c.logit) - top) / temperature));
    total += weights.back();
  }
  double kept = 0;
  size_t count = 0;  // the shortest head that holds top_p of the mass, of candidates not below min_p of the best
  while (count < weights.size() && (count == 0 || (kept < static_cast<double>(params.top_p) * total && weights[count] >= static_cast<double>(params.min_p))))
    kept += weights[count++];
  double left = uniform(params.seed, position) * kept;
  for (size_t i = 0; i < count; ++i)
    if ((left -= weights[i]) < 0) return candidates[i].id;
  return candidates[count - 1].id;
}

}  // namespace flagscale::engine
