#pragma once
// Where a block's warps have a slice of a sum each.
#include "kernel/cuda/cuda.cuh"
#include "op/matmul/steady_cuda.h"

namespace flagscale::op {

constexpr int kSliceThreads = kSlices * 32;

// sum: a warp's slice of kW * 16 rows of the weight by kX * 8 of x, as mma.m16n8k16 leaves it. Adds the
// slices in order. parts: shared memory that nobody reads any more, kSlices * kW * 16 * (kX * 8 + 1) numbers.
template <int kW, int kX, class C>
__device__ void add_slices(const float (&sum)[kW][kX][4], float* parts, const cuda::Rows<C>& y,
                           const cuda::bf16* bias, int64_t first, int64_t row, int64_t n, int64_t m) {
  constexpr int kPitch = kX * 8 + 1, kPart = kW * 16 * kPitch;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kW; ++i)
#pragma unroll
    for (int j = 0; j < kX; ++j)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        parts[warp * kPart + (i * 16 + r / 2 * 8 + lane / 4) * kPitch + j * 8 + lane % 4 * 2 + r % 2] =
            sum[i][j][r];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kW * 16 * kX * 8; i += kSliceThreads) {
    const int64_t column = first + i % (kW * 16), at = row + i / (kW * 16);
    if (column >= n || at >= m) continue;
    const float* part = parts + i % (kW * 16) * kPitch + i / (kW * 16);
    float total = 0;
#pragma unroll
    for (int s = 0; s < kSlices; ++s) total += part[s * kPart];
    cuda::put(y[at] + column, bias ? total + cuda::as_float(bias[column]) : total);
  }
}

}  // namespace flagscale::op
