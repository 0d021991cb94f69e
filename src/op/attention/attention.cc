#include "op/attention/attention.h"

#include "base/error.h"
#include "op/rope/rope.h"

namespace flagscale::op {

namespace {

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens,
           const AttentionShape& s) {
  const bool shape =
      s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0 && s.head_dim > 0 && s.head_dim <= 512;
  const bool good =
      shape && q.shape() == Shape{q.dim(0), int64_t{s.heads} * s.head_dim} && k.shape() == v.shape() &&
      k.shape() == Shape{q.dim(0), int64_t{s.kv_heads} * s.head_dim} && k.dtype() == q.dtype() &&
      v.dtype() == q.dtype() && cu_seqlens.dtype() == DType::kI32 && cu_seqlens.shape().rank() == 1;
  if (!good)
    fail(ErrorKind::kInvalidArgument,
         "[attention] q is {}, k {}, v {}, cu_seqlens {}: expected {} and {} heads of {}", q.shape().str(),
         k.shape().str(), v.shape().str(), cu_seqlens.shape().str(), s.heads, s.kv_heads, s.head_dim);
}

// q and k are gradients' own where a rope made rotated_q and rotated_k of them.
Tensor attend(Context& c, const Tensor& q, const Tensor& k, const Tensor& rotated_q, const Tensor& rotated_k,
              const Tensor& v, const Rope& rope, const Tensor& cu_seqlens, const int64_t* sequences,
              const AttentionShape& shape) {
  check(q, k, v, cu_seqlens, shape);
  const int64_t tokens = q.dim(0);
  const Tensor out = c.recorder.empty(q.shape(), q.dtype(), q.live());
  const Tensor lse =
      c.recorder.empty({shape.heads, tokens}, q.dtype() == DType::kF64 ? DType::kF64 : DType::kF32);
  // As many pairs as one sequence of all tokens has: an upper bound.
  const double pairs = static_cast<double>(tokens) * static_cast<double>(tokens) / 2 * shape.heads;
  c.recorder.launch(kAttention, {rotated_q, rotated_k, v, cu_seqlens, out, lse, sequences, shape},
                    {4 * pairs * shape.head_dim, 2.0 * static_cast<double>(q.bytes() + k.bytes())});
  if (c.tape)
    c.tape->record({q, k, v}, {out}, [=](Backward& b) {
      const auto slot = [&](const Tensor& x) {
        return b.wants(x) ? b.buffer(x) : b.recorder.empty(x.shape(), x.dtype(), x.live());
      };
      const Tensor dq = slot(q), dk = slot(k), dv = slot(v);
      b.recorder.launch(kAttentionBackward,
                        {rotated_q, rotated_k, v, cu_seqlens, out, lse, b.grad(0), dq, dk, dv, sequences,
                         shape, rope.positions, rope.cos, rope.sin, rope.interleaved},
                        {10 * pairs * shape.head_dim, 4.0 * static_cast<double>(q.bytes() + k.bytes())});
      b.give(q, dq);
      b.give(k, dk);
      b.give(v, dv);
    });
  return out;
}

Tensor rotate_in_place(Recorder& recorder, const Tensor& x, const Rope& rope) {
  recorder.launch(kRope, {x, rope.positions, rope.cos, rope.sin, x, rope.interleaved},
                  {3.0 * static_cast<double>(x.shape().numel()), 2.0 * static_cast<double>(x.bytes())});
  return x;
}

}  // namespace

Tensor attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v,
                 const Tensor& cu_seqlens, const int64_t* sequences, const AttentionShape& shape) {
  return attend(context, q, k, q, k, v, {}, cu_seqlens, sequences, shape);
}

Tensor rope_attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Rope& rope,
                      const Tensor& cu_seqlens, const int64_t* sequences, const AttentionShape& shape) {
  Context untaped{context.recorder};
  const auto rotate = [&](const Tensor& x) {
    if (rope.in_place) return rotate_in_place(context.recorder, x, rope);
    return op::rope(untaped, x, rope.positions, rope.cos, rope.sin, rope.interleaved);
  };
  return attend(context, q, k, rotate(q), rotate(k), v, rope, cu_seqlens, sequences, shape);
}

void turn_back(KernelContext& context, const AttentionBackwardArgs& args) {
  if (!args.positions.defined()) return;
  for (const TensorView* gradient : {&args.dq, &args.dk}) {
    RopeArgs rope{{}, args.positions, args.cos, args.sin, {}, args.interleaved, true};
    static_cast<TensorView&>(rope.x) = static_cast<TensorView&>(rope.y) = *gradient;
    kRope.kernel(context.device.kind, context.isa)(context, rope);
  }
}

}  // namespace flagscale::op
