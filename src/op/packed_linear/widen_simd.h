#pragma once
// Integer formats as fp32, for *_cpu.cc files.

#include "op/packed_linear/panel_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

// run(): elements [k, k + n) of a panel as fp32 [n][kPanel]; k and n in whole groups of 32.
template <class F>
struct Widen {
  // The 4 elements of a step, for the outputs of one vector.
  template <int kStep>
  static void widen_step(const uint8_t* group, int64_t n, F32 scale, F32 offset, float* to) {
    const Bytes q = F::Elements::template step<kStep>(group, n);
    widen(q.number(0, 255), scale, offset, to + (4 * kStep + 0) * kPanel);
    widen(q.number(8, 255), scale, offset, to + (4 * kStep + 1) * kPanel);
    widen(q.number(16, 255), scale, offset, to + (4 * kStep + 2) * kPanel);
    widen(q.number(24, 255), scale, offset, to + (4 * kStep + 3) * kPanel);
  }
  static void widen(F32 q, F32 scale, F32 offset, float* to) {
    if constexpr (F::kMin)
      F32::fma(scale, q, offset).store(to);
    else
      (scale * (q - F32::set(static_cast<float>(F::kZero)))).store(to);
  }

  static void run(const uint8_t* panel, int64_t k, int64_t n, float* to) {
    for (int64_t i = k; i < k + n; i += kGroup, to += kGroup * kPanel) {
      const uint8_t* const block = panel + F::kHeadBytes + i / F::kBlock * F::kBlockBytes;
      const int64_t g = i % F::kBlock / kGroup;
      for (int64_t v = 0; v < kPanel; v += F32::kLanes) widen_group(panel, block, g, v, to + v);
    }
  }
  static void widen_group(const uint8_t* head, const uint8_t* block, int64_t g, int64_t v, float* to) {
    const uint8_t* const group = F::group(block, g);
    F32 scale = F32::zero(), offset = F32::zero();
    scales(head, block, g * F::kParts, v, scale, offset);
    widen_step<0>(group, v, scale, offset, to);
    widen_step<1>(group, v, scale, offset, to);
    widen_step<2>(group, v, scale, offset, to);
    widen_step<3>(group, v, scale, offset, to);
    if constexpr (F::kParts == 2) scales(head, block, g * F::kParts + 1, v, scale, offset);
    widen_step<4>(group, v, scale, offset, to);
    widen_step<5>(group, v, scale, offset, to);
    widen_step<6>(group, v, scale, offset, to);
    widen_step<7>(group, v, scale, offset, to);
  }
  static void scales(const uint8_t* head, const uint8_t* block, int64_t part, int64_t v, F32& scale,
                     F32& offset) {
    if constexpr (F::kRowScale) {
      scale = F32::load(reinterpret_cast<const float*>(head) + v);
    } else {
      scale = F::Scales::template scale<F32>(block, part, v);
      offset = F::Scales::template offset<F32>(block, part, v);
    }
  }
};

}  // namespace flagscale::op::FLAGSCALE_ISA
