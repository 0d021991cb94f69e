#pragma once
// A norm of whole rows of bf16, and of a sum, for whoever writes the result: a warp has kNormSlice neighbours
// of a row, all of them on the way at once, and meets the row's others once. Bound by memory.

#include "kernel/cuda/cuda.cuh"
#include "op/rms_norm/norm_rows.h"

namespace flagscale::op {

struct NormRows {
  cuda::Rows<const cuda::bf16> x, delta;  // delta: null, or added
  const cuda::bf16* weight;
  cuda::Rows<cuda::bf16> sum;  // with delta
  float eps;
  int cols;
  int64_t rows;
};

using NormPack = cuda::Pack<kNormPack, cuda::bf16>;
constexpr int kNormPacks = kNormSlice / (32 * kNormPack);  // of a lane

// A short row is a warp's, and a block has four.
inline int warps_of_row(int cols) { return (cols + kNormSlice - 1) / kNormSlice; }
inline int rows_of_block(int cols) { return cols > kNormSlice ? 1 : 4; }
template <class... Arguments>
void launch_norm(void (*kernel)(NormRows, Arguments...), const NormRows& a, const Arguments&... arguments) {
  const int of_block = rows_of_block(a.cols);
  cuda::launch_early(kernel, dim3(static_cast<unsigned>(cuda::divide_up(a.rows, of_block))),
                     32 * of_block * warps_of_row(a.cols), 0, a, arguments...);
}

// Of the calling warp: its row, which may be beyond the last, and its slice. Pack i of a lane is at
// column(i).
struct NormPlace {
  int64_t row;
  int slice, lane;
  __device__ explicit NormPlace(const NormRows& a) : lane(static_cast<int>(threadIdx.x) % 32) {
    const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
    const bool is_long = a.cols > kNormSlice;
    row = is_long ? blockIdx.x : int64_t{blockIdx.x} * warps + warp;
    slice = is_long ? warp : 0;
  }
  __device__ int column(int i) const { return slice * kNormSlice + (i * 32 + lane) * kNormPack; }
};

// y: the lane's packs of the result, zeros beyond the row. Returns 1 / the root of the mean square.
__device__ inline float normalise(const NormRows& a, const NormPlace& at, NormPack (&y)[kNormPacks]) {
  static_assert(kNormPacks == 4);
  __shared__ float4 partial[kMostNormSlices];
  const bool live = at.row < a.rows;
  const auto is_there = [&](int i) { return live && at.column(i) < a.cols; };
  const auto read = [](const cuda::bf16* from) { return *reinterpret_cast<const NormPack*>(from); };
  NormPack weight[kNormPacks] = {}, s[kNormPacks] = {}, delta[kNormPacks] = {};
  cuda::let_next_start();
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i)
    if (is_there(i)) weight[i] = read(a.weight + at.column(i));  // nobody writes it
  cuda::wait_for_previous();
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i)
    if (is_there(i)) {
      s[i] = read(a.x[at.row] + at.column(i));
      if (a.delta.data) delta[i] = read(a.delta[at.row] + at.column(i));
    }
  float squares[kNormPacks] = {};
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i) {
    if (a.delta.data) {
#pragma unroll
      for (int j = 0; j < kNormPack; ++j)
        s[i].at[j] = __float2bfloat16_rn(cuda::as_float(s[i].at[j]) + cuda::as_float(delta[i].at[j]));
      if (is_there(i)) *reinterpret_cast<NormPack*>(a.sum[at.row] + at.column(i)) = s[i];
    }
#pragma unroll
    for (int j = 0; j < kNormPack; ++j) {
      const float v = cuda::as_float(s[i].at[j]);
      squares[i] = fmaf(v, v, squares[i]);
    }
  }
  // In the order of a block whose threads have a pack each.
#pragma unroll
  for (float& own : squares) own = cuda::warp_sum(own);
  const auto add = [](float total, const float4& x) { return (((total + x.x) + x.y) + x.z) + x.w; };
  const float4 own{squares[0], squares[1], squares[2], squares[3]};
  float total = 0;
  if (a.cols <= kNormSlice) {
    total = add(total, own);
  } else {
    if (at.lane == 0) partial[at.slice] = own;
    __syncthreads();
    for (int i = 0; i < static_cast<int>(blockDim.x) / 32; ++i) total = add(total, partial[i]);
  }
  const float rstd = rsqrtf(total / static_cast<float>(a.cols) + a.eps);
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i)
#pragma unroll
    for (int j = 0; j < kNormPack; ++j)
      y[i].at[j] = __float2bfloat16_rn(cuda::as_float(s[i].at[j]) * rstd * cuda::as_float(weight[i].at[j]));
  return rstd;
}

}  // namespace flagscale::op
