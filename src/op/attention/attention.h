#pragma once
// Causal attention over packed sequences, with grouped queries, without storing scores (Dao,
// "FlashAttention-2", 2023): out = softmax(scale q k^T) v within each sequence; backward forms the scores
// again from the row's log-sum-exp.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct AttentionShape {
  int heads = 0, kv_heads = 0, head_dim = 0;  // heads a multiple of kv_heads
  float scale = 0;
  int64_t window = 0;  // keys that a query sees, itself included; 0: all before it
};

constexpr int kMostHeadDimOnCuda = 256;

struct AttentionArgs {
  In q, k, v;                // [tokens, heads * head_dim], [tokens, kv_heads * head_dim] twice; row-strided
  In cu_seqlens;             // [sequences + 1] int32, ascending from 0
  Out out;                   // [tokens, heads * head_dim]
  Out lse;                   // [heads, tokens] fp32 (fp64)
  const int64_t* sequences;  // live count; null: cu_seqlens' size
  AttentionShape shape;
  auto operands() { return std::tie(q, k, v, cu_seqlens, out, lse); }
};
inline constinit KernelSlot<AttentionArgs> kAttention{"attention"};

struct AttentionBackwardArgs {
  In q, k, v, cu_seqlens, out, lse, dout;
  Out dq, dk, dv;
  const int64_t* sequences;
  AttentionShape shape;
  In positions{}, cos{}, sin{};  // RopeArgs': q and k were rotated, dq and dk are of what they were before;
  bool interleaved = false;      // or undefined
  auto operands() { return std::tie(q, k, v, cu_seqlens, out, lse, dout, dq, dk, dv, positions, cos, sin); }
};
inline constinit KernelSlot<AttentionBackwardArgs> kAttentionBackward{"attention_backward"};

// For kernels that form dq and dk of the rotated q and k: turns them back.
void turn_back(KernelContext& context, const AttentionBackwardArgs& args);

Tensor attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v,
                 const Tensor& cu_seqlens, const int64_t* sequences, const AttentionShape& shape);

// The same with q and k rotated first (op/rope).
struct Rope {
  Tensor positions, cos, sin;
  bool interleaved;
  bool in_place = false;  // q and k are rotated where they lie: nobody reads them as they were
};
Tensor rope_attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Rope& rope,
                      const Tensor& cu_seqlens, const int64_t* sequences, const AttentionShape& shape);

}  // namespace flagscale::op
