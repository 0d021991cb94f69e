#pragma once
// Activations in 8 bits, for *_cpu.cc files: quantised by row and group of 32, scale = largest magnitude /
// 127. The rows of a tile lie together in the order in which a product reads them, group after group:
//
//   group = [N][32] numbers, then [N] scales, [N] scaled, [N][kParts] starts
//
// start is what a part of a group begins its integer sum with: minus the weights' zero point times the sum of
// the part's numbers. scaled is the sum of a group's numbers times its scale.

#include "op/packed_linear/bytes_simd.h"
#include "op/packed_linear/packing.h"
#include "op/packed_linear/tiles_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

template <int kParts>
struct Quantised {
  std::byte* memory;
  int64_t groups;
  int zero;

  static constexpr int64_t group_bytes(int64_t rows) { return rows * (kGroup + 4 + 4 + 4 * kParts); }
  static int64_t bytes(int64_t rows, int64_t in) {
    return ((in + kGroup - 1) / kGroup * group_bytes(rows) + 63) / 64 * 64;
  }

  // The groups from g on of the tile of N rows that begins at `row`.
  const std::byte* tile(int64_t row, int64_t n, int64_t g) const {
    return memory + groups * group_bytes(row) + g * group_bytes(n);
  }

  // Fills row r of the tile of n rows at `first`.
  void row(int64_t first, int64_t n, int64_t r, const float* x, int64_t in) const {
    std::byte* to = memory + groups * group_bytes(first);
    for (int64_t g = 0; g < groups; ++g, to += group_bytes(n)) {
      const int64_t left = in - g * kGroup;
      if (left >= kGroup) {
        group(to, n, r, x + g * kGroup);
        continue;
      }
      float padded[kGroup];
      for (int64_t k = 0; k < kGroup; ++k) padded[k] = k < left ? x[g * kGroup + k] : 0;
      group(to, n, r, padded);
    }
  }

 private:
  void group(std::byte* to, int64_t n, int64_t r, const float* x) const {
    F32 high = F32::zero();
    for (int64_t k = 0; k < kGroup; k += F32::kLanes) {
      const F32 v = F32::load(x + k);
      high = F32::max(high, F32::max(v, F32::zero() - v));
    }
    const float largest = high.highest(), inverse = largest > 0 ? 127.f / largest : 0.f;
    auto* const q = reinterpret_cast<int8_t*>(to) + r * kGroup;
    auto* const scales = reinterpret_cast<float*>(to + n * kGroup);
    auto* const starts = reinterpret_cast<int32_t*>(scales + 2 * n) + r * kParts;
    int32_t total = 0;
    constexpr int64_t kSize = kGroup / kParts;
    for (int64_t part = 0; part < kParts; ++part) {
      const int32_t sum = round_to_bytes<kSize>(x + part * kSize, inverse, q + part * kSize);
      starts[part] = -zero * sum;
      total += sum;
    }
    scales[r] = largest / 127.f;
    scales[n + r] = scales[r] * static_cast<float>(total);
  }
};

}  // namespace flagscale::op::FLAGSCALE_ISA
