#include "nn/attention.h"

#include "op/attention/attention.h"
#include "op/rope/rope.h"

namespace flagscale::nn {

Tensor PackedAttention::attend(Context& context, const AttentionSpec& spec, const Tensor& q, const Tensor& k,
                               const Tensor& v) {
  const auto rotate = [&](const Tensor& x) {
    return op::rope(context, x, sequences_.positions, spec.cos->value, spec.sin->value, spec.interleaved);
  };
  return op::attention(context, rotate(q), rotate(k), v, sequences_.cu_seqlens, sequences_.num_seqs,
                       {spec.heads, spec.kv_heads, spec.head_dim, spec.scale, spec.window});
}

}  // namespace flagscale::nn
