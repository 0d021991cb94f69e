#pragma once
// Attention of serving, over a cache of pages (Kwon et al., "PagedAttention", 2023). A page holds kPageTokens positions
// of one layer: keys transposed, so that a vector runs over positions, values by rows.
//
//   k_cache [pages, kv_heads, head_dim, kPageTokens],  v_cache [pages, kv_heads, kPageTokens, head_dim]
//
// A query's softmax runs over its keys page by page from position 0, whatever else is in the batch and however the
// prompt was cut: its result is the same to the bit.

#include <tuple>

#include "op/attention/attention.h"

namespace flagscale::op {

constexpr int64_t kPageTokens = 16;

struct CacheAppendArgs {
  In k, v;             // [tokens, kv_heads * head_dim] fp32, row-strided; k rotated
  In slots;            // [tokens] int32: page * kPageTokens + place
  Out k_cache, v_cache;  // fp32 or bf16; other places stay as they are
  AttentionShape shape;
  auto operands() { return std::tie(k, v, slots, k_cache, v_cache); }
};
inline constinit KernelSlot<CacheAppendArgs> kCacheAppend{"cache_append"};

struct PagedAttentionArgs {
  In q;             // [tokens, heads * head_dim] fp32, row-strided; rotated
  In k_cache, v_cache;
  In positions;     // [tokens] int32: keys 0 .. position are seen
  In sequence;      // [tokens] int32: row of block_table
  In block_table;   // [sequences, pages a sequence] int32
  Out out;          // [tokens, heads * head_dim] fp32
  AttentionShape shape;
  auto operands() { return std::tie(q, k_cache, v_cache, positions, sequence, block_table, out); }
};
inline constinit KernelSlot<PagedAttentionArgs> kPagedAttention{"paged_attention"};

Shape k_cache_shape(int64_t pages, const AttentionShape& shape);
Shape v_cache_shape(int64_t pages, const AttentionShape& shape);

// What the tokens of a step need beside q, k, v.
struct PagedStep {
  Tensor positions, sequence, slots;  // [tokens] int32
  Tensor block_table;                 // [sequences, pages] int32
};

// Appends k and v, then attends: [tokens, heads * head_dim].
Tensor paged_attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& k_cache,
                       const Tensor& v_cache, const PagedStep& step, const AttentionShape& shape);

}  // namespace flagscale::op
