#pragma once
// How numbers of bf16 are rounded to e4m3 with a scale, as round_to_fp8() does.

#include "kernel/cuda/cuda.cuh"

namespace flagscale::op::rounding {
using namespace flagscale::cuda;

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
  __device__ explicit Eight(const Pack<8, bf16>& pack) {
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

}  // namespace flagscale::op::rounding
