#include "op/muon/muon.h"

#include "op/elementwise/elementwise.h"
#include "op/matmul/matmul.h"

namespace flagscale::op {

namespace {

// Keller Jordan's quintic, steep at 0.
constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;

Tensor product(Recorder& recorder, const Tensor& a, const Tensor& b, bool trans_a, bool trans_b) {
  const Tensor out = recorder.empty({a.dim(trans_a ? 1 : 0), b.dim(trans_b ? 0 : 1)}, a.dtype());
  MatmulArgs args;
  args.a = a, args.b = b, args.out = out, args.trans_a = trans_a, args.trans_b = trans_b;
  launch_matmul(recorder, args);
  return out;
}

Tensor sum(Recorder& recorder, float a, const Tensor& x, float b, const Tensor& y) {
  const Tensor out = recorder.empty_like(x);
  const auto elements = static_cast<double>(x.shape().numel());
  recorder.launch(kMuonSum, {x, y, out, a, b}, {3 * elements, 3 * static_cast<double>(x.bytes())});
  return out;
}

}  // namespace

Tensor orthogonalize(Recorder& recorder, Tensor x, int steps, DType type) {
  Context context{recorder};
  if (type != x.dtype()) x = cast(context, x, type);
  const bool tall = x.dim(0) > x.dim(1);
  for (int i = 0; i < steps; ++i) {
    const Tensor gram = product(recorder, x, x, tall, !tall);
    const Tensor polynomial = sum(recorder, kB, gram, kC, product(recorder, gram, gram, false, false));
    const Tensor moved = tall ? product(recorder, x, polynomial, false, false)
                              : product(recorder, polynomial, x, false, false);
    x = sum(recorder, kA, x, 1, moved);
  }
  return x;
}

}  // namespace flagscale::op
