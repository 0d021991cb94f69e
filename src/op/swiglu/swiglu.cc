#include "op/swiglu/swiglu.h"

#include "base/error.h"

namespace flagscale::op {

Tensor swiglu(Context& c, const Tensor& gate, const Tensor& up) {
  if (gate.shape().rank() < 2 || gate.shape() != up.shape() || gate.dtype() != up.dtype())
    fail(ErrorKind::kInvalidArgument, "[swiglu] gate is {}, up is {}", gate.shape().str(), up.shape().str());
  const Tensor y = c.recorder.empty(gate.shape(), gate.dtype(), gate.live());
  const double n = static_cast<double>(gate.shape().numel()), bytes = static_cast<double>(gate.bytes());
  c.recorder.launch(kSwiglu, {gate, up, y}, {5 * n, 3 * bytes});
  if (c.tape) {
    c.tape->record({gate, up}, {y}, [=](Backward& b) {
      const Tensor dgate = b.wants(gate) ? b.buffer(gate) : b.recorder.empty_like(y);
      const Tensor dup = b.wants(up) ? b.buffer(up) : b.recorder.empty_like(y);
      const Tensor again = b.room_to_remake(y);
      b.recorder.launch(kSwigluBackward, {gate, up, b.grad(0), dgate, dup, again},
                        {10 * n, (again.defined() ? 6 : 5) * bytes});
      b.remade(y, again);
      b.give(gate, dgate);
      b.give(up, dup);
    });
    c.tape->remakes(y);
  }
  return y;
}

}  // namespace flagscale::op
