#pragma once
// Rows of bf16 rounded to e4m3 numbers, with a scale for each slice of a row (op/fp8_linear).
#include "kernel/cuda/cuda.cuh"
#include "op/fp8_linear/fp8_linear.h"

namespace flagscale::op::fp8 {
using namespace flagscale::cuda;

using Eights = Pack<8, bf16>;
constexpr float kLargest = 448;

__device__ inline uint16_t two_e4m3(float low, float high) {
#if __CUDA_ARCH__ >= 890
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  __trap();  // run() refuses it
  return 0;
#endif
}

// Eight neighbours of x from k on; zeros beyond `end`.
__device__ inline Eights eights_of(const bf16* x, int64_t k, int64_t end, bool wide) {
  if (wide && k + 8 <= end) return *reinterpret_cast<const Eights*>(x + k);
  Eights pack;
#pragma unroll
  for (int i = 0; i < 8; ++i) pack.at[i] = k + i < end ? x[k + i] : __float2bfloat16_rn(0);
  return pack;
}

struct Eight {
  float at[8];
  __device__ explicit Eight(const Eights& pack) {
#pragma unroll
    for (int i = 0; i < 8; ++i) at[i] = as_float(pack.at[i]);
  }
  // What it gates, silu(x) up, rounded to bf16.
  __device__ Eights gated(const Eight& up) const {
    Eights pack;
#pragma unroll
    for (int i = 0; i < 8; ++i) put(&pack.at[i], __fdividef(at[i], 1.f + __expf(-at[i])) * up.at[i]);
    return pack;
  }
  __device__ float largest() const {
    float most = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) most = fmaxf(most, fabsf(at[i]));
    return most;
  }
  __device__ uint2 rounded(float inverse) const {
    uint16_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      pairs[i] = two_e4m3(__fmul_rn(at[2 * i], inverse), __fmul_rn(at[2 * i + 1], inverse));
    return make_uint2(pairs[0] | uint32_t{pairs[1]} << 16, pairs[2] | uint32_t{pairs[3]} << 16);
  }
};

__device__ inline float largest_of_warp(float own) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) own = fmaxf(own, __shfl_xor_sync(0xffffffffu, own, step));
  return own;
}
__device__ inline float inverse_of(float largest) { return largest > 0 ? __fdiv_rn(kLargest, largest) : 0.f; }
__device__ inline float scale_of(float largest) { return __fdiv_rn(largest, kLargest); }

// A warp's slice of a row of x: numbers [first, after), zeros from k on. wide: in packs of 16 bytes. up:
// null, or x gates it.
struct Slice {
  static constexpr int kTurns = kFp8Numbers / (32 * 8);
  Eights packs[kTurns], ups[kTurns];
  __device__ static int64_t at(int64_t first, int i) {
    return first + (i * 32 + static_cast<int>(threadIdx.x) % 32) * 8;
  }
  __device__ void read(const bf16* x, const bf16* up, bool wide, int64_t first, int64_t after, int64_t k) {
    const int64_t last = after < k ? after : k;
    if (wide && last - first == kFp8Numbers) {  // all of it on the way at once
#pragma unroll
      for (int i = 0; i < kTurns; ++i) {
        packs[i] = *reinterpret_cast<const Eights*>(x + at(first, i));
        if (up) ups[i] = *reinterpret_cast<const Eights*>(up + at(first, i));
      }
    } else {
#pragma unroll
      for (int i = 0; i < kTurns; ++i) {
        packs[i] = eights_of(x, at(first, i), last, wide);
        if (up) ups[i] = eights_of(up, at(first, i), last, wide);
      }
    }
  }
  template <class Place>  // number i goes to q(i)
  __device__ void round(bool gated, int64_t first, int64_t after, float* scale, const Place& q) {
    if (gated)
#pragma unroll
      for (int i = 0; i < kTurns; ++i) packs[i] = Eight(packs[i]).gated(Eight(ups[i]));
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kTurns; ++i) largest = fmaxf(largest, Eight(packs[i]).largest());
    largest = largest_of_warp(largest);
    if (threadIdx.x % 32 == 0) *scale = scale_of(largest);
    const float inverse = inverse_of(largest);
#pragma unroll
    for (int i = 0; i < kTurns; ++i)
      if (at(first, i) < after) *reinterpret_cast<uint2*>(q(at(first, i))) = Eight(packs[i]).rounded(inverse);
  }
};

template <class Place>
__device__ void round_slice(const bf16* x, const bf16* up, bool wide, int64_t first, int64_t after, int64_t k,
                            float* scale, const Place& q) {
  Slice slice;
  slice.read(x, up, wide, first, after, k);
  slice.round(up != nullptr, first, after, scale, q);
}

}  // namespace flagscale::op::fp8
