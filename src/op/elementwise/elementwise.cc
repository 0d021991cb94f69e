#include "op/elementwise/elementwise.h"

#include "base/error.h"

namespace flagscale::op {

namespace {

Cost moved(const Tensor& tensor, int times) {
  return {static_cast<double>(tensor.shape().numel()), static_cast<double>(tensor.bytes()) * times};
}

void record_add(Recorder& recorder, const Tensor& a, const Tensor& b, const Tensor& out) {
  recorder.launch(kAdd, {a, b, out}, moved(a, 3));
}

void record_zero(Recorder& recorder, const Tensor& out) { recorder.launch(kZero, {out}, moved(out, 1)); }

}  // namespace

Tensor add(Context& context, const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype())
    fail(ErrorKind::kInvalidArgument, "[add] {} {} and {} {} differ", name(a.dtype()), a.shape().str(),
         name(b.dtype()), b.shape().str());
  const Tensor out = context.recorder.empty(a.shape(), a.dtype(), a.live());
  record_add(context.recorder, a, b, out);
  if (context.tape)
    context.tape->record({a, b}, {out}, [a, b](Backward& back) {
      back.give(a, back.grad(0));
      back.give(b, back.grad(0));
    });
  return out;
}

Tensor cast(Context& context, const Tensor& x, DType dtype) {
  const Tensor out = context.recorder.empty(x.shape(), dtype, x.live());
  context.recorder.launch(kCast, {x, out}, {0, static_cast<double>(x.bytes() + out.bytes())});
  return out;
}

Tape make_tape() { return Tape(record_add, record_zero); }

}  // namespace flagscale::op
