#include "op/paged_attention/paged_attention.h"

#include "base/error.h"

namespace flagscale::op {

namespace {

bool is_ints(const Tensor& x, const Shape& shape) { return x.dtype() == DType::kI32 && x.shape() == shape; }

// Extra lines of a page's head for its scales, each kPageTokens long.
int64_t scale_lines(DType dtype) { return dtype == DType::kI8 ? static_cast<int64_t>(sizeof(float)) : 0; }

void check_pages(const char* op, const Tensor& q, const Tensor& k_pages, const Tensor& v_pages,
                 int64_t kv_heads, int64_t head_dim) {
  const DType dtype = k_pages.dtype();
  const bool narrow = dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kI8;
  const bool types = dtype == v_pages.dtype() && (dtype == q.dtype() || (narrow && q.dtype() != DType::kF64));
  const int64_t pages = k_pages.shape().rank() == 2 ? k_pages.dim(0) : 0;
  if (types && head_dim > 0 && head_dim <= 512 &&
      k_pages.shape() == k_pages_shape(pages, kv_heads, head_dim, dtype) &&
      v_pages.shape() == v_pages_shape(pages, kv_heads, head_dim, dtype))
    return;
  fail(ErrorKind::kInvalidArgument, "[{}] k_pages {} {}, v_pages {} {}, q {}: not a cache of {} heads of {}",
       op, k_pages.shape().str(), name(k_pages.dtype()), v_pages.shape().str(), name(v_pages.dtype()),
       name(q.dtype()), kv_heads, head_dim);
}

}  // namespace

Shape k_pages_shape(int64_t pages, int64_t kv_heads, int64_t head_dim, DType dtype) {
  return {pages, kv_heads * (head_dim + scale_lines(dtype)) * kPageTokens};
}
Shape v_pages_shape(int64_t pages, int64_t kv_heads, int64_t head_dim, DType dtype) {
  return {pages, kv_heads * ((head_dim + 15) / 16 * 16 + scale_lines(dtype)) * kPageTokens};
}

Tensor rope_append(Context& c, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& positions,
                   const Tensor& slots, const Tensor& cos, const Tensor& sin, bool interleaved,
                   const Tensor& k_pages, const Tensor& v_pages) {
  const int64_t head_dim = 2 * cos.dim(-1), kv_heads = head_dim > 0 ? k.dim(-1) / head_dim : 0;
  check_pages("rope_append", q, k_pages, v_pages, kv_heads, head_dim);
  const Shape kv{q.dim(0), kv_heads * head_dim}, token{q.dim(0)};
  const bool good = q.shape().rank() == 2 && q.dim(1) % head_dim == 0 && k.shape() == kv && v.shape() == kv &&
                    k.dtype() == q.dtype() && v.dtype() == q.dtype() && is_ints(positions, token) &&
                    is_ints(slots, token) && cos.shape() == sin.shape() &&
                    cos.shape() == Shape{cos.dim(0), head_dim / 2} && head_dim % 2 == 0 &&
                    cos.dtype() == DType::kF32 && sin.dtype() == DType::kF32;
  if (!good)
    fail(ErrorKind::kInvalidArgument,
         "[rope_append] q {}, k {}, v {}, positions {}, slots {}, cos {}: expected {} kv heads of {}",
         q.shape().str(), k.shape().str(), v.shape().str(), positions.shape().str(), slots.shape().str(),
         cos.shape().str(), kv_heads, head_dim);
  const Tensor rotated = c.recorder.empty(q.shape(), q.dtype(), q.live());
  c.recorder.launch(kRopeAppend,
                    {q, k, v, positions, slots, cos, sin, rotated, k_pages, v_pages, interleaved},
                    {3.0 * static_cast<double>(q.shape().numel() + k.shape().numel()),
                     2.0 * static_cast<double>(q.bytes() + k.bytes() + v.bytes())});
  return rotated;
}

Tensor paged_attention(Context& c, const Tensor& q, const Tensor& k_pages, const Tensor& v_pages,
                       const Tensor& block_tables, const Tensor& cu_seqlens, const Tensor& context_lens,
                       const int64_t* sequences, const AttentionShape& shape,
                       const LongestSequence& longest) {
  const int64_t kv_heads = shape.kv_heads, head_dim = shape.head_dim;
  check_pages("paged_attention", q, k_pages, v_pages, kv_heads, head_dim);
  const int64_t count = context_lens.dim(0);
  const bool good = shape.heads % kv_heads == 0 && q.shape() == Shape{q.dim(0), shape.heads * head_dim} &&
                    is_ints(context_lens, {count}) && is_ints(cu_seqlens, {count + 1}) &&
                    is_ints(block_tables, {count, block_tables.dim(-1)});
  if (!good)
    fail(ErrorKind::kInvalidArgument,
         "[paged_attention] q {}, k_pages {}, block_tables {}, cu_seqlens {}, context_lens {}: expected {} "
         "and {} heads of {}",
         q.shape().str(), k_pages.shape().str(), block_tables.shape().str(), cu_seqlens.shape().str(),
         context_lens.shape().str(), shape.heads, shape.kv_heads, shape.head_dim);
  const Tensor out = c.recorder.empty(q.shape(), q.dtype(), q.live());
  // Every query row with the longest context that a block table can hold: an upper bound.
  const double keys = static_cast<double>(block_tables.dim(1) * kPageTokens),
               heads = static_cast<double>(shape.heads);
  const double cache = 2.0 * keys * static_cast<double>(count * kv_heads * head_dim) *
                       static_cast<double>(size_of(k_pages.dtype()));
  c.recorder.launch(
      kPagedAttention,
      {q, k_pages, v_pages, block_tables, cu_seqlens, context_lens, out, sequences, shape, longest},
      {4.0 * static_cast<double>(q.dim(0)) * keys * heads * static_cast<double>(head_dim),
       cache + 2.0 * static_cast<double>(q.bytes())});
  return out;
}

}  // namespace flagscale::op
