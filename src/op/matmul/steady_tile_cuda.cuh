#pragma once
// What becomes of a warpgroup's sums of a tile (Hopper).
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/matmul/steady_cluster_cuda.cuh"

namespace flagscale::op {

constexpr int kGroup = 128;  // threads of a warpgroup

// What is done to the sums of a tile's columns.
template <int kColumns>
struct Ends {
  float scale[kColumns], bias[kColumns];
};

// A thread's share of them: asked for before a tile's products, so that nobody waits for it after them.
template <bool kScaled, int kColumns>
struct OwnEnds {
  static constexpr int kOwn = (kColumns + kGroup - 1) / kGroup;
  float scale[kOwn], bias[kOwn];
  const int thread = static_cast<int>(threadIdx.x) % kGroup;
  template <class C>
  __device__ OwnEnds(const Result<C>& to, int64_t column) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int64_t own = column + thread + i * kGroup, c = own < to.n ? own : to.n - 1;
      scale[i] = kScaled ? cuda::as_float(to.scales.w[c]) : 1.f;
      bias[i] = to.bias ? cuda::as_float(to.bias[c]) : 0.f;
    }
  }
  __device__ void give(Ends<kColumns>& to) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (const int own = thread + i * kGroup; own < kColumns)
        to.scale[own] = scale[i], to.bias[own] = bias[i];
  }
};

template <bool kScaled, int kBlocks, class C>
__device__ void put_tile(const Result<C>& to, const float (&sum)[kBlocks][4], const Ends<kBlocks * 8>& ends,
                         int64_t row, int64_t column, int lane) {
  const int64_t end = column + kBlocks * 8 < to.n ? column + kBlocks * 8 : to.n;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = row + lane / 4 + half * 8;
#pragma unroll
    for (int j = 0; j < kBlocks; j += 4) {
      float v[4][2] = {};
#pragma unroll
      for (int i = 0; i < 4 && j + i < kBlocks; ++i)
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int own = (j + i) * 8 + lane % 4 * 2 + k;
          v[i][k] = sum[j + i][2 * half + k];
          if (kScaled) v[i][k] = __fmul_rn(v[i][k], ends.scale[own]);
          if (to.bias) v[i][k] = __fadd_rn(v[i][k], ends.bias[own]);
        }
      if (std::is_same_v<C, cuda::bf16> && to.by_eight) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) r[i] = cuda::pair_of(v[i][0], v[i][1]);
        cuda::gather_eights(r, lane);
        const int64_t c = column + (j + lane % 4) * 8;
        if (at < to.m && c < end)
          *reinterpret_cast<uint4*>(to.y[at] + c) = make_uint4(r[0], r[1], r[2], r[3]);
        continue;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t c = column + (j + i) * 8 + lane % 4 * 2;
        if (at >= to.m) continue;
        if (c < end) cuda::put(to.y[at] + c, v[i][0]);
        if (c + 1 < end) cuda::put(to.y[at] + c + 1, v[i][1]);
      }
    }
  }
}

}  // namespace flagscale::op
