#pragma once
// What the tensor cores' kernels of paged attention share: chunks of keys, rows of a block of prefill, and
// how chunks are folded into a row.

#include <cstddef>
#include <span>
#include <type_traits>

#include "kernel/cuda/tensor_cores.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {

template <class C>  // the cache's type
using Pages = Paged<cuda::bf16, C>;

constexpr int kKeys = 64, kPage = static_cast<int>(kPageTokens), kPages = kKeys / kPage;  // of a chunk
constexpr int kWarps = 4, kThreads = 32 * kWarps;                                         // that copy a chunk
constexpr uint32_t kOnes = 0x3f803f80;                                                    // two of bf16

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

// Scores are taken relative to this: where no key is seen all weights are zeros.
__device__ inline float base_of(float most) { return most == -INFINITY ? 0.f : most; }
// exp2f's bits, but that what is below 2^-126 is zero.
__device__ inline float weight_of(float score, float base) {
  float weight;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(weight) : "f"(score - base));
  return weight;
}

__device__ inline float folded(float total, float keep, float part, float take) {
  return __fmaf_rn(total, keep, __fmul_rn(part, take));
}

// What a row's mixes are multiplied by in the end.
__device__ inline float share_of(float sum) { return __frcp_rn(sum); }

// The fold of chunks of one row: its maximum, and the factors of what was there and of what comes.
struct Fold {
  float keep, take;
  __device__ Fold(float& most, float chunk) {
    const float now = fmaxf(most, chunk), base = base_of(now);
    keep = weight_of(most, base);
    take = weight_of(chunk, base);
    most = now;
  }
  __device__ float operator()(float total, float part) const { return folded(total, keep, part, take); }
};

// Rows of a block of prefill: the heads of a group of each token, tokens in order.
struct Row {
  int token, head;  // of the sequence's queries, of the group
  bool there;
};

// How many blocks of kRows rows a step needs at most, one grid for all sequences: one whose rows begin at row
// r and that is the i-th has its blocks from r * group / kRows + i on.
template <int kRows>
int64_t row_blocks(const PagedAttentionArgs& args, int64_t sequences) {
  return args.q.rows() * (args.shape.heads / args.shape.kv_heads) / kRows + sequences;
}

template <int kRows, class C>
__device__ int64_t first_block_of(const Pages<C>& a, int64_t sequence) {
  return int64_t{a.cu_seqlens[sequence]} * (a.heads / a.kv_heads) / kRows + sequence;
}

// The first sequence of more queries than one: those that generate come before it. By a warp.
template <class C>
__device__ int first_of_many(const Pages<C>& a, int64_t sequences) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t i = 0; i < sequences; i += 32) {
    const bool many = i + lane < sequences && a.queries(i + lane) > 1;
    if (const unsigned found = __ballot_sync(0xffffffffu, many))
      return static_cast<int>(i) + __ffs(found) - 1;
  }
  return 0;
}

// The rows of one sequence and head of keys that a block of prefill has: the block's number of row_blocks(),
// a sequence's last rows first, which see most. A warp has 16 of them, a lane two, 8 apart.
template <int kRows>
struct RowsOfBlock {
  int s = -1, kv, begin = -1, end, before, token0;  // end: keys of the sequence; before: those before its
  int queries, group, warp, lane;                   // queries
  int first[2], last[2];                            // keys that the lane's rows see
  int lowest, highest;                              // that any row of the block sees

  template <class C>
  __device__ RowsOfBlock(const Pages<C>& a, int64_t sequences, unsigned block, unsigned head,
                         int from = 0)  // from: a sequence at or before the block's
      : kv(static_cast<int>(head)),
        group(a.heads / a.kv_heads),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32) {
    find(a, sequences, block, from);
    if (none()) return;
    end = a.context_lens[s];
    token0 = a.cu_seqlens[s];
    before = end - queries;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Row row = at(lane / 4 + 8 * r);
      last[r] = row.there ? before + row.token : -1;
      first[r] = static_cast<int>(a.first_key(last[r]));
    }
    lowest = static_cast<int>(a.first_key(position(begin)));
    highest = position(begin + kRows - 1);
  }
  // By each warp for itself.
  template <class C>
  __device__ void find(const Pages<C>& a, int64_t sequences, unsigned block, int from) {
    const auto first_block = [&](int64_t i) { return first_block_of<kRows>(a, i); };
    for (int64_t i = from; i < sequences; i += 32) {
      const int64_t own = i + lane;
      const bool its = own < sequences && first_block(own) <= block && block < first_block(own + 1);
      if (const unsigned found = __ballot_sync(0xffffffffu, its)) s = static_cast<int>(i) + __ffs(found) - 1;
    }
    if (s < 0) return;
    queries = a.queries(s);
    const int blocks = (queries * group + kRows - 1) / kRows;
    if (queries > 1) begin = (blocks - 1 - static_cast<int>(block - first_block(s))) * kRows;
  }
  __device__ bool none() const { return begin < 0; }
  __device__ Row at(int i) const {  // of the warp's 16
    const int row = begin + warp * 16 + i;
    return Row{row / group, row % group, row < queries * group};
  }
  __device__ int position(int row) const {  // of a row or, where there is none, the last one
    return before + (row / group < queries ? row / group : queries - 1);
  }
  __device__ int column(const Row& row, int dim) const { return (kv * group + row.head) * dim; }
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
      cuda::bf16* out = row.there ? a.out[token0 + row.token] + column(row, D) : nullptr;
      const float share = share_of(sum[r]);
#pragma unroll
      for (int n = 0; n < D / 8; n += 4) {
        uint32_t eights[4] = {};
#pragma unroll
        for (int i = 0; i < 4 && n + i < D / 8; ++i)
          eights[i] = cuda::pair_of(mix[n + i][2 * r] * share, mix[n + i][2 * r + 1] * share);
        cuda::gather_eights(eights, lane);
        if (const int own = n + lane % 4; out && own < D / 8)
          *reinterpret_cast<uint4*>(out + own * 8) = {eights[0], eights[1], eights[2], eights[3]};
      }
    }
  }
};

// One query of a sequence, the others passed over. `memory`: for what chunks give, at least decode_bytes().
constexpr int kMostGroup = 16;  // heads that share keys
template <class C>
void decode(const Pages<C>& pages, const PagedAttentionArgs& args, std::span<std::byte> memory);
size_t decode_bytes(const PagedAttentionArgs& args);
// The same of an int8 cache on Hopper, for sequences that are many.
void decode_by_warps(const Pages<int8_t>& pages, const PagedAttentionArgs& args);

// More queries than one, by Hopper's warpgroups; false, and nothing is launched, on another GPU or where rows
// of q are not in packs of 16 bytes.
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
