#include "op/grouped_matmul/grouped_matmul.h"

#include "base/error.h"

namespace flagscale::op {

Tensor grouped_linear(Context& c, const Tensor& x, const Tensor& counts, const Tensor& weight) {
  const int64_t experts = counts.shape().rank() == 1 ? counts.dim(0) : 0;
  if (x.shape().rank() != 3 || weight.shape().rank() != 2 || experts < 1 || weight.dim(0) % experts != 0 ||
      x.dim(2) != weight.dim(1) || x.dtype() != weight.dtype() || counts.dtype() != DType::kI32)
    fail(ErrorKind::kInvalidArgument, "[grouped_linear] x is {} {}, weight {} {} of {} experts",
         name(x.dtype()), x.shape().str(), name(weight.dtype()), weight.shape().str(), experts);
  const Tensor y = c.recorder.empty({x.dim(0), x.dim(1), weight.dim(0) / experts}, x.dtype(), x.live());
  const Cost cost{2 * static_cast<double>(x.dim(0) * x.dim(1)) * static_cast<double>(y.dim(2) * x.dim(2)),
                  static_cast<double>(x.bytes() + weight.bytes() + y.bytes())};
  c.recorder.launch(kGroupedMatmul, {x, weight, counts, y, {}, true, nullptr}, cost);
  if (c.tape)
    c.tape->record({x, weight}, {y}, [=](Backward& b) {
      const Tensor dy = b.grad(0);
      if (const auto dweight = b.sink(weight); dweight.grad.defined())
        b.recorder.launch(kGroupedMatmul, {dy, x, counts, {}, dweight.grad, false, dweight.accumulate}, cost);
      if (!b.wants(x)) return;
      const Tensor dx = b.buffer(x);
      b.recorder.launch(kGroupedMatmul, {dy, weight, counts, dx, {}, false, nullptr}, cost);
      b.give(x, dx);
    });
  return y;
}

}  // namespace flagscale::op
