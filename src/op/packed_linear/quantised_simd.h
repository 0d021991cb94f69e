#pragma once
// Activations in 8 bits, for *_cpu.cc files: quantised by row and group of 32, scale = largest magnitude /
// 127. The rows of a tile lie together in the order in which a product reads them, group after group:
//
//   group = [N][32] numbers, then [N] scales, [N] scaled, [N][kParts] starts
//
// start is what a part of a group begins its integer sum with: minus the weights' zero point times the sum of
// the part's numbers. scaled is the sum of a group's numbers times its scale.
//
// An element larger than kOutlier times its row's root mean square stands apart, in fp32: beside it the other
// 31 would be rounded to its scale. They are some 0.1 % of a model's activations, and without them a token's
// log-probability is 0.4 times as far (in squares) from that of exact products.

#include "op/packed_linear/bytes_simd.h"
#include "op/packed_linear/packing.h"
#include "op/packed_linear/tiles_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

struct Outlier {
  int32_t k;
  float value;
};

struct Outliers {  // of a row
  int64_t count;
  Outlier* list() { return reinterpret_cast<Outlier*>(this + 1); }
  const Outlier* begin() const { return reinterpret_cast<const Outlier*>(this + 1); }
  const Outlier* end() const { return begin() + count; }
};

template <int kParts>
struct Quantised {
  static constexpr int64_t kOutlier = 10;

  Quantised(std::byte* memory, int64_t most_rows, int64_t in, int zero)
      : memory_(memory),
        lists_(memory + groups_bytes(most_rows, in)),
        in_(in),
        groups_((in + kGroup - 1) / kGroup),
        zero_(zero) {}

  static constexpr int64_t group_bytes(int64_t rows) { return rows * (kGroup + 4 + 4 + 4 * kParts); }
  static int64_t bytes(int64_t rows, int64_t in) {
    return (groups_bytes(rows, in) + rows * outliers_bytes(in) + 63) / 64 * 64;
  }

  // The groups from g on of the tile of N rows that begins at `row`.
  const std::byte* tile(int64_t row, int64_t n, int64_t g) const {
    return memory_ + groups_ * group_bytes(row) + g * group_bytes(n);
  }

  Outliers& outliers(int64_t row) const {
    return *reinterpret_cast<Outliers*>(lists_ + row * outliers_bytes(in_));
  }

  // Fills row r of the tile of n rows at `first`.
  void row(int64_t first, int64_t n, int64_t r, const float* x) const {
    std::byte* to = memory_ + groups_ * group_bytes(first);
    const float limit = largest_square(x);
    Outliers& apart = outliers(first + r);
    apart.count = 0;
    for (int64_t k = 0; k < in_; k += kGroup, to += group_bytes(n)) {
      const int64_t left = in_ - k;
      const float largest = left < kGroup ? 0 : magnitude(x + k);
      if (left >= kGroup && !(largest * largest > limit)) {
        group(to, n, r, x + k, largest);
        continue;
      }
      float kept[kGroup] = {};
      for (int64_t i = 0; i < kGroup && i < left; ++i) {
        const float value = x[k + i];
        if (value * value > limit && apart.count < most(in_))
          apart.list()[apart.count++] = {static_cast<int32_t>(k + i), value};
        else
          kept[i] = value;
      }
      group(to, n, r, kept, magnitude(kept));
    }
  }

 private:
  // So few elements can have squares above kOutlier^2 times the mean.
  static constexpr int64_t most(int64_t in) { return in / (kOutlier * kOutlier); }
  static constexpr int64_t outliers_bytes(int64_t in) {
    return static_cast<int64_t>(sizeof(Outliers)) + most(in) * static_cast<int64_t>(sizeof(Outlier));
  }
  static int64_t groups_bytes(int64_t rows, int64_t in) {
    return ((in + kGroup - 1) / kGroup * group_bytes(rows) + 7) / 8 * 8;
  }

  float largest_square(const float* x) const {
    F32 sum = F32::zero();
    for_lanes<F32>(in_, [&](int64_t k, int64_t n) {
      const F32 v = F32::load_n(x + k, n);
      sum = F32::fma(v, v, sum);
    });
    return sum.sum() * static_cast<float>(kOutlier * kOutlier) / static_cast<float>(in_);
  }

  static float magnitude(const float* x) {
    F32 high = F32::zero();
    for (int64_t k = 0; k < kGroup; k += F32::kLanes) {
      const F32 v = F32::load(x + k);
      high = F32::max(high, F32::max(v, F32::zero() - v));
    }
    return high.highest();
  }

  void group(std::byte* to, int64_t n, int64_t r, const float* x, float largest) const {
    const float inverse = largest > 0 ? 127.f / largest : 0.f;
    auto* const q = reinterpret_cast<int8_t*>(to) + r * kGroup;
    auto* const scales = reinterpret_cast<float*>(to + n * kGroup);
    auto* const starts = reinterpret_cast<int32_t*>(scales + 2 * n) + r * kParts;
    int32_t total = 0;
    constexpr int64_t kSize = kGroup / kParts;
    for (int64_t part = 0; part < kParts; ++part) {
      const int32_t sum = round_to_bytes<kSize>(x + part * kSize, inverse, q + part * kSize);
      starts[part] = -zero_ * sum;
      total += sum;
    }
    scales[r] = largest / 127.f;
    scales[n + r] = scales[r] * static_cast<float>(total);
  }

  std::byte *memory_, *lists_;
  int64_t in_, groups_;
  int zero_;
};

}  // namespace flagscale::op::FLAGSCALE_ISA
