#pragma once
// Tiles and products of attention's kernels for Hopper's warpgroups.

#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/attention/attention_rows_cuda.cuh"

namespace flagscale::op {

constexpr int kGroupRows = 64;  // of a warpgroup's product

// A tile of kRows rows and D columns in shared memory: panels of 64 columns.
template <int D, int kRows>
constexpr int kNumbers = D * kRows;

// Starts copying rows from `token` of one head, by one thread.
template <int D, int kRows>
__device__ void fetch(cuda::bf16* to, const CUtensorMap& map, int64_t token, int head, cuda::Barrier* b) {
#pragma unroll
  for (int panel = 0; panel < D / cuda::kPanelColumns; ++panel)
    cuda::copy_tile_of_head(to + panel * kRows * cuda::kPanelColumns, map, static_cast<int>(token), head,
                            panel * cuda::kPanelColumns, b);
}
template <int D>
constexpr int bytes_of_rows(int rows) {
  return rows * D * static_cast<int>(sizeof(cuda::bf16));
}

struct Maps {
  CUtensorMap q, k, v, dout;  // in tiles of the kernel that they are for
};

// sum = left right^T over D: 64 rows of a tile of kLeftRows, kN of one of kRightRows.
template <int D, int kN, int kLeftRows = kGroupRows, int kRightRows = kN>
__device__ __forceinline__ void scores_of(float (&sum)[kN / 8][4], const cuda::bf16* left,
                                          const cuda::bf16* right) {
  const uint64_t rows = cuda::across(left, 0), columns = cuda::across(right, 0);
#pragma unroll
  for (int d = 0; d < D; d += 16)
    cuda::multiply<false>(sum, cuda::after(rows, d / 64 * kLeftRows * cuda::kPanelColumns + d % 64),
                          cuda::after(columns, d / 64 * kRightRows * cuda::kPanelColumns + d % 64), d > 0);
}

template <int kN>
__device__ __forceinline__ void as_left_factors(cuda::Fragment (&a)[kN / 16],
                                                const float (&weights)[kN / 8][4]) {
#pragma unroll
  for (int n = 0; n < kN / 16; ++n) cuda::as_left(a[n], weights[2 * n], weights[2 * n + 1]);
}

// sum = (keep ? sum : 0) + weights, 64 x kN, times right, kN x D.
template <int D, int kN>
__device__ __forceinline__ void mix(float (&sum)[D / 8][4], const cuda::Fragment (&weights)[kN / 16],
                                    const cuda::bf16* right, bool keep = true) {
  const uint64_t rows = cuda::down(right, 0, kN * cuda::kPanelColumns * int{sizeof(cuda::bf16)});
#pragma unroll
  for (int n = 0; n < kN / 16; ++n)
    cuda::multiply<true>(sum, weights[n], cuda::after(rows, n * 16 * cuda::kPanelColumns), keep || n > 0);
}

// Row `half` of the lane's two in pieces of 16 bytes; all lanes call it, rows that are not wanted have to =
// null.
template <int kN>
__device__ void put_wide_row(cuda::bf16* to, const float (&sum)[kN / 8][4], int half, float factor, int lane,
                             int dim) {
#pragma unroll
  for (int j = 0; j < kN / 8; j += 4) {
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      r[i] = cuda::pair_of(sum[j + i][2 * half] * factor, sum[j + i][2 * half + 1] * factor);
    cuda::gather_eights(r, lane);
    const int d = (j + lane % 4) * 8;
    if (to && d < dim) *reinterpret_cast<uint4*>(to + d) = make_uint4(r[0], r[1], r[2], r[3]);
  }
}

__device__ inline cuda::bf16* on_boundary(uint8_t* memory) {
  return reinterpret_cast<cuda::bf16*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
}

// queries, keys: rows of a tile of each side.
template <class View>
Maps maps_of(const View& a, int64_t tokens, int queries, int keys) {
  const AttentionShape& s = a.shape;
  const auto of = [&](const cuda::Rows<const cuda::bf16>& rows, int heads, int tile) {
    return cuda::heads_of(rows.data, tokens, heads, s.head_dim, rows.stride, tile);
  };
  Maps maps{of(a.q, s.heads, queries), of(a.k, s.kv_heads, keys), of(a.v, s.kv_heads, keys), {}};
  if constexpr (requires { a.dout; }) maps.dout = of(a.dout, s.heads, queries);
  return maps;
}

}  // namespace flagscale::op
