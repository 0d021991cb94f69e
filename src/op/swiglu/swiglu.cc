#include "op/swiglu/swiglu.h"

#include "base/error.h"
#include "op/fp8_product/largest.h"

namespace flagscale::op {

Tensor swiglu(Context& c, const Tensor& gate, const Tensor& up, Tensor* largest) {
  if (gate.shape().rank() < 2 || gate.shape() != up.shape() || gate.dtype() != up.dtype())
    fail(ErrorKind::kInvalidArgument, "[swiglu] gate is {}, up is {}", gate.shape().str(), up.shape().str());
  const Tensor y = c.recorder.empty(gate.shape(), gate.dtype(), gate.live());
  const double n = static_cast<double>(gate.shape().numel()), bytes = static_cast<double>(gate.bytes());
  if (largest) *largest = make_largest(c.recorder);
  c.recorder.launch(kSwiglu, {gate, up, y, largest ? *largest : Tensor()}, {5 * n, 3 * bytes});
  if (c.tape) {
    c.tape->record({gate, up}, {y}, [=](Backward& b) {
      const Tensor most = b.is_measured({gate, up}) ? make_largest(b.recorder) : Tensor();
      const Tensor dgate = b.wants(gate) ? b.buffer(gate) : b.recorder.empty_like(y);
      const Tensor dup = b.wants(up) ? b.buffer(up) : b.recorder.empty_like(y);
      const Tensor again = b.room_to_remake(y);
      b.recorder.launch(kSwigluBackward, {gate, up, b.grad(0), dgate, dup, again, most},
                        {10 * n, (again.defined() ? 6 : 5) * bytes});
      b.remade(y, again);
      b.give(gate, dgate);
      b.give(up, dup);
      b.give_largest(gate, most);
    });
    c.tape->remakes(y);
  }
  return y;
}

}  // namespace flagscale::op
