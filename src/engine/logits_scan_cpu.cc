#include <limits>

#include "engine/logits_scan.h"
#include "kernel/simd.h"

namespace flagscale::engine::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// max(lowest, x) is NaN where x is, and finite for -inf: times 0 it is NaN for NaN and +inf alone.
F32 suspect(F32 x, F32 before) { return F32::fma(F32::max(F32::set(kLowest), x), F32::zero(), before); }

float blocks(const float* x, int64_t n, float* largest) {
  F32 bad = F32::zero(), top = F32::set(kMinusInfinity);
  float rest = kMinusInfinity, rest_bad = 0;
  for (int64_t begin = 0; begin < n; begin += kLogitBlock) {
    const int64_t end = begin + kLogitBlock < n ? begin + kLogitBlock : n;
    F32 most = F32::set(kMinusInfinity);
    int64_t i = begin;
    for (; i + F32::kLanes <= end; i += F32::kLanes) {
      const F32 value = F32::load(x + i);
      most = F32::max(most, value);
      bad = suspect(value, bad);
    }
    float highest = most.highest();
    for (; i < end; ++i) {
      highest = highest > x[i] ? highest : x[i];
      rest_bad += (x[i] > kLowest ? x[i] : x[i] != x[i] ? x[i] : kLowest) * 0.f;
    }
    largest[begin / kLogitBlock] = highest;
    top = F32::max(top, most);
    rest = rest > highest ? rest : highest;
  }
  const float sum = bad.sum() + rest_bad;
  if (sum != sum) return std::numeric_limits<float>::quiet_NaN();
  return top.highest() > rest ? top.highest() : rest;
}

// exp of what it is clamped to, taken off, so that what lies below is 0.
F32 weight(F32 x, F32 top, F32 scale, F32 least) {
  return F32::max(F32::exp((x - top) * scale) - least, F32::zero());
}

double exponents(const float* x, int64_t n, float top_value, float scale_value, float* weights) {
  constexpr int64_t kPiece = 4096;
  const F32 top = F32::set(top_value), scale = F32::set(scale_value),
            least = F32::exp(F32::set(kMinusInfinity));
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = begin + kPiece < n ? begin + kPiece : n;
    F32 sum = F32::zero();
    int64_t i = begin;
    for (; i + F32::kLanes <= end; i += F32::kLanes) {
      const F32 w = weight(F32::load(x + i), top, scale, least);
      sum = sum + w;
      if (weights) w.store(weights + i);
    }
    if (i < end) {
      float values[F32::kLanes], results[F32::kLanes];
      for (int64_t j = 0; j < F32::kLanes; ++j) values[j] = i + j < end ? x[i + j] : kMinusInfinity;
      const F32 w = weight(F32::load(values), top, scale, least);
      sum = sum + w;
      w.store(results);
      for (int64_t j = 0; weights && i + j < end; ++j) weights[i + j] = results[j];
    }
    total += static_cast<double>(sum.sum());
  }
  return total;
}

const AddLogitsScan kAdded(FLAGSCALE_ISA_ENUM, {&blocks, &exponents});

}  // namespace

}  // namespace flagscale::engine::FLAGSCALE_ISA::FLAGSCALE_FILE
