#include "nn/attention.h"

#include "op/attention/attention.h"

namespace flagscale::nn {

Tensor PackedAttention::attend(Context& context, const AttentionSpec& spec, const Tensor& q, const Tensor& k,
                               const Tensor& v) {
  const op::Rope rope{sequences_.positions, spec.cos->value, spec.sin->value, spec.interleaved, true};
  return op::rope_attention(context, q, k, v, rope, sequences_.cu_seqlens, sequences_.num_seqs,
                            {spec.heads, spec.kv_heads, spec.head_dim, spec.scale, spec.window});
}

}  // namespace flagscale::nn
