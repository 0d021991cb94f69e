#pragma once
// Attention as a model sees it: unrotated q and k go in, the mix of values comes out. Behind it is flash
// attention over packed sequences (training) or a paged cache (serving): the model never knows which.

#include "autograd/context.h"
#include "nn/parameter.h"

namespace flagscale::nn {

struct AttentionSpec {
  int layer = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;                                // of q k^T
  int64_t window = 0;                             // keys that a query sees, itself included; 0: all before it
  bool interleaved = false;                       // rotary pairs (2j, 2j+1) instead of (j, j + head_dim/2)
  const Constant *cos = nullptr, *sin = nullptr;  // [positions, head_dim / 2]
};

class AttentionContext {
 public:
  virtual ~AttentionContext() = default;

  //   q [tokens, heads * head_dim], k and v [tokens, kv_heads * head_dim] -> [tokens, heads * head_dim]
  virtual Tensor attend(Context& context, const AttentionSpec& spec, const Tensor& q, const Tensor& k,
                        const Tensor& v) = 0;
};

// Whole sequences, packed one after another, causal within each.
struct PackedSequences {
  Tensor positions;                   // [tokens] int32
  Tensor cu_seqlens;                  // [capacity + 1] int32: first token of each sequence, then the end
  const int64_t* num_seqs = nullptr;  // live
};

class PackedAttention final : public AttentionContext {
 public:
  explicit PackedAttention(PackedSequences sequences) : sequences_(std::move(sequences)) {}
  Tensor attend(Context& context, const AttentionSpec& spec, const Tensor& q, const Tensor& k,
                const Tensor& v) override;

 private:
  PackedSequences sequences_;
};

}  // namespace flagscale::nn
