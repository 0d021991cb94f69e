#pragma once
// op/fp8_product/largest.h on a GPU.

#include "kernel/cuda/cuda.cuh"
#include "op/fp8_product/largest.h"

namespace flagscale::op {

// Null where nobody asks.
inline uint32_t* largest_parts(const TensorView& largest) {
  return largest.defined() ? largest.ptr<uint32_t>() : nullptr;
}

// Before a kernel that adds to them.
void clear_largest(uint32_t* parts);
// Of a tensor that lies there.
void find_largest(const TensorView& x, uint32_t* parts);

// A thread's so far, by the bits of fp32.
__device__ inline void take_larger(uint32_t& most, float x) {
  const uint32_t bits = __float_as_uint(fabsf(x));
  if (bits > most) most = bits;
}

// By all lanes of a warp.
__device__ inline void add_largest(uint32_t* parts, uint32_t most) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, step));
  const uint32_t bits = __bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(most)));
  if (threadIdx.x % 32 == 0) atomicMax(parts + (blockIdx.x + blockIdx.y * 37) % kLargestParts, bits);
}

}  // namespace flagscale::op
