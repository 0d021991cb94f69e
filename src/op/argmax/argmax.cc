#include "op/argmax/argmax.h"

#include "base/error.h"

namespace flagscale::op {

Tensor argmax(Context& c, const Tensor& x) {
  if (x.shape().rank() != 2 || x.dtype() != DType::kF32)
    fail(ErrorKind::kInvalidArgument, "[argmax] x is {} {}, expected rows of float32", name(x.dtype()),
         x.shape().str());
  const Tensor best = c.recorder.empty({x.dim(0)}, DType::kI32, x.live());
  c.recorder.launch(kArgmax, {x, best}, {0, static_cast<double>(x.bytes())});
  return best;
}

}  // namespace flagscale::op
