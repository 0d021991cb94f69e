#include "op/gated_add/gated_add.h"

#include "base/error.h"

namespace flagscale::op {

Tensor gated_add(Context& c, const Tensor& a, const Tensor& gate, const Tensor& b) {
  if (a.shape().rank() != 2 || a.shape() != b.shape() || a.dtype() != b.dtype() ||
      gate.shape() != Shape{a.dim(0), 1})
    fail(ErrorKind::kInvalidArgument, "[gated_add] a is {}, gate {}, b {}", a.shape().str(),
         gate.shape().str(), b.shape().str());
  const Tensor y = c.recorder.empty(a.shape(), a.dtype(), a.live());
  const double n = static_cast<double>(a.shape().numel()), bytes = static_cast<double>(a.bytes());
  c.recorder.launch(kGatedAdd, {a, b, gate, y}, {2 * n, 3 * bytes});
  if (c.tape)
    c.tape->record({a, gate, b}, {y}, [=](Backward& back) {
      const Tensor db = back.wants(b) ? back.buffer(b) : back.recorder.empty_like(b);
      const Tensor dgate = back.wants(gate) ? back.buffer(gate) : back.recorder.empty_like(gate);
      back.recorder.launch(kGatedAddBackward, {b, gate, back.grad(0), db, dgate}, {4 * n, 3 * bytes});
      back.give(a, back.grad(0));
      back.give(gate, dgate);
      back.give(b, db);
    });
  return y;
}

}  // namespace flagscale::op
