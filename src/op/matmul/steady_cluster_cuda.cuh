#pragma once
// A tile of a steady product by a cluster whose blocks have a slice of the sum each (Hopper).
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"
#include "op/matmul/steady_cuda.h"

namespace flagscale::op {

// Of products of e4m3 numbers: of each slice of a row of x, [m, slices], and of each row of W.
struct Scales {
  const float* x;
  const cuda::bf16* w;
  int slices;
};

template <class C>
struct Result {
  cuda::Rows<C> y;
  const cuda::bf16* bias;
  int64_t m, n;
  int steps, of_slice;  // of kStep
  bool by_eight;        // columns are a multiple of eight, on boundaries of 16 bytes
  Scales scales = {};
};

__device__ inline void meet_in_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline float4 read_of_block(const float* p, int block) {  // of the cluster
  float4 v;
  asm volatile(
      "{\n.reg .b32 a;\nmapa.shared::cluster.u32 a, %4, %5;\nld.shared::cluster.v4.f32 {%0,%1,%2,%3}, "
      "[a];\n}\n"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "r"(cuda::shared_address(p)), "r"(block)
      : "memory");
  return v;
}

// The block's sums are part [kRows of x][kPitch], kColumns of W, written before the last barrier. Adds the
// slices in order; each block puts some rows of the tile at (row, column).
template <int kRows, int kColumns, int kPitch, int kThreads, class C>
__device__ void add_parts(const float* part, const Result<C>& to, int row, int column, int slice) {
  const int thread = static_cast<int>(threadIdx.x);
  meet_in_cluster();
  if (thread < kThreads) {
    constexpr int kPacks = kColumns / 4;
    const int live = static_cast<int>(to.m - row < kRows ? to.m - row : kRows),
              share = (live + kSlices - 1) / kSlices,
              end_row = live < (slice + 1) * share ? live : (slice + 1) * share;
    for (int at = slice * share * kPacks + thread; at < end_row * kPacks;
         at += kThreads) {  // rows that it adds
      const int own = at / kPacks, c = at % kPacks * 4;
      float total[4] = {};
#pragma unroll
      for (int s = 0; s < kSlices; ++s) {
        const float4 v = read_of_block(part + own * kPitch + c, s);
        total[0] += v.x, total[1] += v.y, total[2] += v.z, total[3] += v.w;
      }
      C* y = to.y[row + own] + column + c;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (to.bias && column + c + j < to.n) total[j] += cuda::as_float(to.bias[column + c + j]);
      if (to.by_eight && column + c < to.n) {
        cuda::store(y, total);
      } else {
        for (int j = 0; j < 4 && column + c + j < to.n; ++j) cuda::put(y + j, total[j]);
      }
    }
  }
  meet_in_cluster();  // nobody's part is read any more
}

}  // namespace flagscale::op
