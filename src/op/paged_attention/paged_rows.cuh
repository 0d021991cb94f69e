#pragma once
// What the tensor cores' kernels of paged attention share: chunks of keys, rows of a block of prefill, and
// how chunks are folded into a row.

#include "kernel/cuda/tensor_cores.cuh"
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {

using Pages = Paged<cuda::bf16, cuda::bf16>;

constexpr int kKeys = 64, kPage = static_cast<int>(kPageTokens), kPages = kKeys / kPage;  // of a chunk
constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;  // rows of a block of prefill
constexpr uint32_t kOnes = 0x3f803f80;                                  // two of bf16

// Rows of 16 queries, two numbers at a time, as left factors. row(i): where row i begins, or null.
template <int D, class Row>
__device__ void load_queries(cuda::Fragment (&q)[D / 16], Row&& row, int lane) {
  const cuda::bf16 *top = row(lane / 4), *bottom = row(lane / 4 + 8);
  const auto pair = [&](const cuda::bf16* p, int column) {
    return p ? *reinterpret_cast<const uint32_t*>(p + column) : 0u;
  };
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    const int column = i * 16 + lane % 4 * 2;
    q[i][0] = pair(top, column), q[i][1] = pair(bottom, column);
    q[i][2] = pair(top, column + 8), q[i][3] = pair(bottom, column + 8);
  }
}

__device__ inline float weight_of(float score, float most) {
  return score == -INFINITY ? 0.f : exp2f(score - most);
}

// The fold of chunks of one row: its maximum, and the factors of what was there and of what comes.
struct Fold {
  float keep, take;
  __device__ Fold(float& most, float chunk) {
    const float now = fmaxf(most, chunk);
    keep = weight_of(most, now);
    take = weight_of(chunk, now);
    most = now;
  }
  __device__ float operator()(float total, float part) const {
    return __fmaf_rn(total, keep, __fmul_rn(part, take));
  }
};

// Rows of a block of prefill: the heads of a group of each token, tokens in order.
struct Row {
  int64_t token;  // of the sequence's queries
  int head;       // of the group
  bool there;
};

// The rows of one sequence and head of keys that a block of prefill has, the last blocks first: they see
// most. A lane has two, 8 apart.
struct RowsOfBlock {
  int64_t s, kv, begin, end, before, token0;  // end: keys of the sequence; before: those before its queries
  int queries, group, warp, lane;
  int64_t first[2], last[2];  // keys that the lane's rows see
  int64_t lowest, highest;    // that any row of the block sees

  __device__ explicit RowsOfBlock(const Pages& a)
      : s(blockIdx.z),
        kv(blockIdx.y),
        begin(int64_t{gridDim.x - 1 - blockIdx.x} * kRows),
        end(a.context_lens[s]),
        token0(a.cu_seqlens[s]),
        queries(a.queries(s)),
        group(a.heads / a.kv_heads),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32) {
    before = end - queries;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Row row = at(lane / 4 + 8 * r);
      last[r] = row.there ? before + row.token : -1;
      first[r] = a.first_key(last[r]);
    }
    const int64_t final_row = begin + kRows - 1;
    lowest = a.first_key(before + begin / group);
    highest = before + (final_row / group < queries ? final_row / group : queries - 1);
  }
  __device__ bool none() const { return queries < 2 || begin >= int64_t{queries} * group; }
  __device__ Row at(int i) const {  // of the warp's 16
    const int64_t row = begin + warp * 16 + i;
    return Row{row / group, static_cast<int>(row % group), row < int64_t{queries} * group};
  }
  __device__ int64_t column(const Row& row, int dim) const { return (kv * group + row.head) * dim; }
  template <int D>
  __device__ void load(cuda::Fragment (&q)[D / 16], const Pages& a) const {
    load_queries<D>(
        q,
        [&](int i) -> const cuda::bf16* {
          const Row row = at(i);
          return row.there ? a.q[token0 + row.token] + column(row, D) : nullptr;
        },
        lane);
  }
  template <int D>
  __device__ void put(const Pages& a, const float (&mix)[D / 8][4], const float (&sum)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Row row = at(lane / 4 + 8 * r);
      if (!row.there) continue;
      cuda::bf16* out = a.out[token0 + row.token] + column(row, D) + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
        *reinterpret_cast<uint32_t*>(out + n * 8) =
            cuda::pair_of(__fdiv_rn(mix[n][2 * r], sum[r]), __fdiv_rn(mix[n][2 * r + 1], sum[r]));
    }
  }
};

// The same by Hopper's warpgroups; false, and nothing is launched, on another GPU.
bool prefill_by_warpgroups(const Pages& pages, int dim, int64_t queries, int64_t sequences);

}  // namespace flagscale::op
