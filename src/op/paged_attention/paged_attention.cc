#include "op/paged_attention/paged_attention.h"

#include "base/error.h"

namespace flagscale::op {

Shape k_cache_shape(int64_t pages, const AttentionShape& s) { return {pages, s.kv_heads, s.head_dim, kPageTokens}; }
Shape v_cache_shape(int64_t pages, const AttentionShape& s) { return {pages, s.kv_heads, kPageTokens, s.head_dim}; }

Tensor paged_attention(Context& c, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& k_cache,
                       const Tensor& v_cache, const PagedStep& step, const AttentionShape& s) {
  const int64_t tokens = q.dim(0);
  const bool good = q.shape() == Shape{tokens, int64_t{s.heads} * s.head_dim} && k.shape() == Shape{tokens, int64_t{s.kv_heads} * s.head_dim} &&
                    v.shape() == k.shape() && k_cache.shape() == k_cache_shape(k_cache.dim(0), s) &&
                    v_cache.shape() == v_cache_shape(k_cache.dim(0), s) && q.dtype() == DType::kF32 && s.head_dim <= 512 &&
                    step.block_table.shape().rank() == 2;
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[paged_attention] q is {}, k {}, cache {}: expected {} and {} heads of {}", q.shape().str(),
         k.shape().str(), k_cache.shape().str(), s.heads, s.kv_heads, s.head_dim);
  c.recorder.launch(kCacheAppend, {k, v, step.slots, k_cache, v_cache, s}, {0, 4.0 * static_cast<double>(k.bytes())});
  const Tensor out = c.recorder.empty(q.shape(), DType::kF32, q.live());
  const auto context = static_cast<double>(step.block_table.dim(1) * kPageTokens);
  c.recorder.launch(kPagedAttention, {q, k_cache, v_cache, step.positions, step.sequence, step.block_table, out, s},
                    {4 * context * static_cast<double>(q.shape().numel()), 2.0 * static_cast<double>(q.bytes())});
  return out;
}

}  // namespace flagscale::op
