#pragma once
// What the tensor cores' kernels of paged attention share: chunks of keys, rows of a block of prefill, and
// how chunks are folded into a row.

#include <cstddef>
#include <span>
#include <type_traits>

#include "kernel/cuda/tensor_cores.cuh"
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {

template <class C>  // the cache's type
using Pages = Paged<cuda::bf16, C>;

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

__device__ inline float folded(float total, float keep, float part, float take) {
  return __fmaf_rn(total, keep, __fmul_rn(part, take));
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
  __device__ float operator()(float total, float part) const { return folded(total, keep, part, take); }
};

// Rows of a block of prefill: the heads of a group of each token, tokens in order.
struct Row {
  int64_t token;  // of the sequence's queries
  int head;       // of the group
  bool there;
};

// How many blocks rows of a step need at most, one grid for all sequences: one whose rows begin at row r and
// that is the i-th has its blocks from r * group / kRows + i on.
inline int64_t row_blocks(const PagedAttentionArgs& args, int64_t sequences) {
  return args.q.rows() * (args.shape.heads / args.shape.kv_heads) / kRows + sequences;
}

// The rows of one sequence and head of keys that a block of prefill has (x: of row_blocks(), a sequence's
// last first, which see most; y: the head of keys). A lane has two, 8 apart.
struct RowsOfBlock {
  int64_t s = -1, kv, begin = -1, end, before, token0;  // end: keys of the sequence; before: those before its
  int queries, group, warp, lane;                       // queries
  int64_t first[2], last[2];                            // keys that the lane's rows see
  int64_t lowest, highest;                              // that any row of the block sees

  template <class C>
  __device__ RowsOfBlock(const Pages<C>& a, int64_t sequences)
      : kv(blockIdx.y),
        group(a.heads / a.kv_heads),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32) {
    find(a, sequences);
    if (none()) return;
    end = a.context_lens[s];
    token0 = a.cu_seqlens[s];
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
  template <class C>
  __device__ void find(const Pages<C>& a, int64_t sequences) {
    __shared__ int found;
    if (threadIdx.x == 0) found = -1;
    __syncthreads();
    const auto first_block = [&](int64_t i) { return int64_t{a.cu_seqlens[i]} * group / kRows + i; };
    for (auto i = int64_t{threadIdx.x}; i < sequences; i += kThreads)
      if (first_block(i) <= blockIdx.x && blockIdx.x < first_block(i + 1)) found = static_cast<int>(i);
    __syncthreads();
    if ((s = found) < 0) return;
    queries = a.queries(s);
    const int64_t blocks = (int64_t{queries} * group + kRows - 1) / kRows;
    if (queries > 1) begin = (blocks - 1 - (int64_t{blockIdx.x} - first_block(s))) * kRows;
  }
  __device__ bool none() const { return begin < 0; }
  __device__ Row at(int i) const {  // of the warp's 16
    const int64_t row = begin + warp * 16 + i;
    return Row{row / group, static_cast<int>(row % group), row < int64_t{queries} * group};
  }
  __device__ int64_t column(const Row& row, int dim) const { return (kv * group + row.head) * dim; }
  template <int D, class C>
  __device__ void load(cuda::Fragment (&q)[D / 16], const Pages<C>& a) const {
    load_queries<D>(
        q,
        [&](int i) -> const cuda::bf16* {
          const Row row = at(i);
          return row.there ? a.q[token0 + row.token] + column(row, D) : nullptr;
        },
        lane);
  }
  template <int D, class C>
  __device__ void put(const Pages<C>& a, const float (&mix)[D / 8][4], const float (&sum)[2]) const {
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

// One query of a sequence, the others passed over. `memory`: for what chunks give, at least decode_bytes().
constexpr int kMostGroup = 16;  // heads that share keys
template <class C>
void decode(const Pages<C>& pages, const PagedAttentionArgs& args, std::span<std::byte> memory);
size_t decode_bytes(const PagedAttentionArgs& args);

// More queries than one, by Hopper's warpgroups; false, and nothing is launched, on another GPU.
template <class C>
bool prefill_by_warpgroups(const Pages<C>& pages, const PagedAttentionArgs& args, int64_t sequences);

// What only a model's sizes and types decide, so that every row of it is computed in one way.
template <class Body>  // body(head_dim as an integral_constant)
void for_head_dim(int64_t dim, Body&& body) {
  switch (dim) {
    case 64:
      return body(std::integral_constant<int, 64>());
    case 80:
      return body(std::integral_constant<int, 80>());
    case 96:
      return body(std::integral_constant<int, 96>());
    default:
      return body(std::integral_constant<int, 128>());
  }
}

}  // namespace flagscale::op
