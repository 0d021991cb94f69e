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
struct Eight {
  float at[8];
  Eight() = default;
  __device__ explicit Eight(const Eights& pack) {
#pragma unroll
    for (int i = 0; i < 8; ++i) at[i] = as_float(pack.at[i]);
  }
  __device__ Eight(const bf16* x, int64_t k, int64_t end, bool wide) {
    if (wide && k + 8 <= end) {
      load(x + k, at);
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) at[i] = k + i < end ? as_float(x[k + i]) : 0.f;
    }
  }
  // What it gates, silu(x) up, rounded to bf16.
  __device__ void gate(const Eight& up) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      const auto gated = [&](int j) { return __fdividef(at[j], 1.f + __expf(-at[j])) * up.at[j]; };
      const float2 pair = __bfloat1622float2(__floats2bfloat162_rn(gated(i), gated(i + 1)));
      at[i] = pair.x, at[i + 1] = pair.y;
    }
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

// A warp's slice of a row of x: number i of [first, after) goes to q(i), zeros from k on. wide: in packs of
// 16 bytes. up: null, or x gates it.
template <class Place>
__device__ void round_slice(const bf16* x, const bf16* up, bool wide, int64_t first, int64_t after, int64_t k,
                            float* scale, const Place& q) {
  constexpr int kTurns = kFp8Numbers / (32 * 8);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t last = after < k ? after : k;
  Eight eights[kTurns];
  if (wide && last - first == kFp8Numbers) {  // all of it on the way at once
    Eights packs[kTurns], ups[kTurns];
#pragma unroll
    for (int i = 0; i < kTurns; ++i) {
      const int64_t at = first + (i * 32 + lane) * 8;
      packs[i] = *reinterpret_cast<const Eights*>(x + at);
      if (up) ups[i] = *reinterpret_cast<const Eights*>(up + at);
    }
#pragma unroll
    for (int i = 0; i < kTurns; ++i) {
      eights[i] = Eight(packs[i]);
      if (up) eights[i].gate(Eight(ups[i]));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kTurns; ++i) {
      eights[i] = Eight(x, first + (i * 32 + lane) * 8, last, wide);
      if (up) eights[i].gate(Eight(up, first + (i * 32 + lane) * 8, last, wide));
    }
  }
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kTurns; ++i) largest = fmaxf(largest, eights[i].largest());
  largest = largest_of_warp(largest);
  if (lane == 0) *scale = scale_of(largest);
  const float inverse = inverse_of(largest);
#pragma unroll
  for (int i = 0; i < kTurns; ++i)
    if (const int64_t at = first + (i * 32 + lane) * 8; at < after)
      *reinterpret_cast<uint2*>(q(at)) = eights[i].rounded(inverse);
}

}  // namespace flagscale::op::fp8
