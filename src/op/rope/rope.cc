#include "op/rope/rope.h"

#include "base/error.h"

namespace flagscale::op {

Tensor rope(Context& c, const Tensor& x, const Tensor& positions, const Tensor& cos, const Tensor& sin,
            bool interleaved) {
  const bool good = x.shape().rank() == 2 && positions.dtype() == DType::kI32 &&
                    positions.shape() == Shape{x.dim(0)} && cos.shape() == sin.shape() &&
                    cos.dtype() == DType::kF32 && x.dim(1) % (2 * cos.dim(1)) == 0;
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[rope] x is {}, positions {} {}, tables {}", x.shape().str(),
         name(positions.dtype()), positions.shape().str(), cos.shape().str());
  const Tensor y = c.recorder.empty(x.shape(), x.dtype(), x.live());
  const Cost cost{3.0 * static_cast<double>(x.shape().numel()), 2.0 * static_cast<double>(x.bytes())};
  c.recorder.launch(kRope, {x, positions, cos, sin, y, interleaved, false}, cost);
  if (c.tape)
    c.tape->record({x}, {y}, [=](Backward& b) {
      const Tensor dx = b.buffer(x);
      b.recorder.launch(kRope, {b.grad(0), positions, cos, sin, dx, interleaved, true}, cost);
      b.give(x, dx);
    });
  return y;
}

}  // namespace flagscale::op
