#pragma once
// The rotation of one head, for *_cpu.cc files: x and y [2 * half], cos and sin [half]. y may be of another
// type than x.

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

template <class V, class T, class Y>
static inline void rotate_halves(const T* x, Y* y, const float* cos, const float* sin, int64_t half,
                                 bool backwards) {
  for_lanes<V>(half, [&](int64_t i, int64_t n) {
    const V a = V::load_n(x + i, n), b = V::load_n(x + half + i, n), c = V::load_n(cos + i, n);
    V s = V::load_n(sin + i, n);
    if (backwards) s = V::zero() - s;
    (a * c - b * s).store_n(y + i, n);
    (b * c + a * s).store_n(y + half + i, n);
  });
}

template <class S, class T, class Y>
static inline void rotate_pairs(const T* x, Y* y, const float* cos, const float* sin, int64_t half,
                                bool backwards) {
  for (int64_t i = 0; i < half; ++i) {
    const S a = as_float(x[2 * i]), b = as_float(x[2 * i + 1]), c = cos[i], s = backwards ? -sin[i] : sin[i];
    put(y + 2 * i, a * c - b * s);
    put(y + 2 * i + 1, b * c + a * s);
  }
}

template <class V, class T, class Y>
static inline void rotate(const T* x, Y* y, const float* cos, const float* sin, int64_t half,
                          bool interleaved, bool backwards) {
  if (interleaved)
    rotate_pairs<typename V::Scalar>(x, y, cos, sin, half, backwards);
  else
    rotate_halves<V>(x, y, cos, sin, half, backwards);
}

}  // namespace flagscale::op::FLAGSCALE_ISA
