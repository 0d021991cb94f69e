#pragma once
// Attention over a paged cache of keys and values, for serving: chunked prefill and decode in one kernel.
//
// The cache of one layer is two tensors of pages of kPageTokens tokens, fp32, bf16 or int8 (fp64 in tests),
// with a page a row; rows may be strided, so that a page of all layers lies together:
//   k_pages [pages, kv_heads * head_dim * kPageTokens]   keys transposed: a page's scores are one vector
//   v_pages [pages, kv_heads * kPageTokens * pitch]      pitch: head_dim rounded up to 16, padded with zeros
// In int8 each token of each head has a scale, max |x| / 127; kPageTokens of them, fp32, follow the elements
// of every head: there k_pages has head_dim + 4 in place of head_dim, and v_pages pitch + 4.
// A slot is page * kPageTokens + offset. Row s of block_tables names the pages of sequence s in order of
// position.
//
// What a query row gets is bitwise the same alone, in a batch, in chunks of any size, after a prefix hit, and
// at any thread count: keys are cut into chunks at fixed positions, and the results of chunks are combined in
// their order.

#include <tuple>

#include "op/attention/attention.h"

namespace flagscale::op {

constexpr int64_t kPageTokens = 16;

Shape k_pages_shape(int64_t pages, int64_t kv_heads, int64_t head_dim, DType dtype = DType::kF32);
Shape v_pages_shape(int64_t pages, int64_t kv_heads, int64_t head_dim, DType dtype = DType::kF32);

struct RopeAppendArgs {
  In q, k, v;    // [tokens, heads * head_dim], [tokens, kv_heads * head_dim] twice; row-strided, unrotated
  In positions;  // [tokens] int32
  In slots;      // [tokens] int32: where k and v go; negative: nowhere
  In cos, sin;   // fp32 [positions, head_dim / 2]
  Out rotated;   // [tokens, heads * head_dim]: q rotated
  InOut k_pages, v_pages;
  bool interleaved = false;
  auto operands() { return std::tie(q, k, v, positions, slots, cos, sin, rotated, k_pages, v_pages); }
};
inline constinit KernelSlot<RopeAppendArgs> kRopeAppend{"rope_append"};

// Rotates q and k (op/rope), writes k and v to their slots, returns the rotated q. No gradient: serving only.
Tensor rope_append(Context& context, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& positions, const Tensor& slots, const Tensor& cos, const Tensor& sin,
                   bool interleaved, const Tensor& k_pages, const Tensor& v_pages);

// Bounds on any one sequence of a step, where the caller knows them when a kernel runs: a GPU's launches are
// cut by them. No result depends on them.
struct LongestSequence {
  const int64_t* queries = nullptr;  // live; null: as many as there are rows
  const int64_t* context = nullptr;  // live; null: what block_tables has room for
};

struct PagedAttentionArgs {
  In q;                 // [tokens, heads * head_dim], rotated
  In k_pages, v_pages;  // as above
  In block_tables;      // [sequences, max_pages] int32; pages that no visible key lies on are not looked at
  In cu_seqlens;        // [sequences + 1] int32: first query row of each sequence, then the end
  In context_lens;      // [sequences] int32: keys in the cache, the sequence's query rows' own included
  Out out;              // [tokens, heads * head_dim]
  const int64_t* sequences;  // live count; null: all of context_lens
  AttentionShape shape;
  LongestSequence longest;
  auto operands() { return std::tie(q, k_pages, v_pages, block_tables, cu_seqlens, context_lens, out); }
};
inline constinit KernelSlot<PagedAttentionArgs> kPagedAttention{"paged_attention"};

// The i-th of n query rows of a sequence is at position context_len - n + i and sees the keys up to its own
// (from shape.window keys back, where set). No gradient.
Tensor paged_attention(Context& context, const Tensor& q, const Tensor& k_pages, const Tensor& v_pages,
                       const Tensor& block_tables, const Tensor& cu_seqlens, const Tensor& context_lens,
                       const int64_t* sequences, const AttentionShape& shape,
                       const LongestSequence& longest = {});

}  // namespace flagscale::op
