#include "op/rms_norm/rms_norm.h"

#include "base/error.h"
#include "op/fp8_product/largest.h"

namespace flagscale::op {

namespace {

AddRmsNorm normalise(Context& c, const Tensor& x, const Tensor& delta, const Tensor& weight, float eps,
                     Tensor* largest) {
  const int64_t group = weight.shape().rank() == 1 ? weight.dim(0) : 0;
  if (x.shape().rank() != 2 || group == 0 || x.dim(1) % group != 0 || x.dtype() != weight.dtype())
    fail(ErrorKind::kInvalidArgument, "[rms_norm] weight is {} {}, x is {} {}: expected x [rows, n * weight]",
         name(weight.dtype()), weight.shape().str(), name(x.dtype()), x.shape().str());
  if (delta.defined() && (delta.shape() != x.shape() || delta.dtype() != x.dtype()))
    fail(ErrorKind::kInvalidArgument, "[rms_norm] delta is {}, x is {}", delta.shape().str(),
         x.shape().str());

  const DType statistics = x.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  const Tensor y = c.recorder.empty(x.shape(), x.dtype(), x.live());
  const Tensor sum = delta.defined() ? c.recorder.empty(x.shape(), x.dtype(), x.live()) : Tensor();
  const Tensor rstd = c.recorder.empty({x.dim(0), x.dim(1) / group}, statistics, x.live());
  const double bytes = static_cast<double>(x.bytes());
  if (largest) *largest = make_largest(c.recorder);
  c.recorder.launch(kRmsNorm, {x, delta, weight, sum, y, rstd, eps, largest ? *largest : Tensor()},
                    {4.0 * static_cast<double>(x.shape().numel()), bytes * (delta.defined() ? 4 : 2)});

  if (!c.tape) return {sum, y};
  std::vector<Tensor> inputs{x, weight}, outputs{y};
  if (delta.defined()) {
    inputs.push_back(delta);
    outputs.push_back(sum);
  }
  c.tape->record(inputs, outputs, [=](Backward& b) {
    const Tensor s = sum.defined() ? sum : x;
    const Tensor dsum = sum.defined() ? b.grad(1) : Tensor();
    if (!b.grad(0).defined()) {  // only the sum is used
      b.give(x, dsum);
      b.give(delta, dsum);
      return;
    }
    const bool in_place = !delta.defined() && b.wants(x);
    const Tensor dx = in_place ? b.buffer(x) : b.recorder.empty(x.shape(), x.dtype(), x.live());
    const auto sink = b.sink(weight);
    const Tensor again = b.room_to_remake(y);
    const Tensor most = delta.defined() && b.is_measured({delta}) ? make_largest(b.recorder) : Tensor();
    b.recorder.launch(kRmsNormBackward,
                      {s, weight, rstd, b.grad(0), dsum, dx, sink.grad, sink.accumulate, again, most},
                      {8.0 * static_cast<double>(x.shape().numel()),
                       bytes * ((dsum.defined() ? 4 : 3) + (again.defined() ? 1 : 0))});
    b.remade(y, again);
    b.give(x, dx);
    if (!delta.defined()) return;
    b.give(delta, dx);
    b.give_largest(delta, most);
  });
  c.tape->remakes(y);
  return {sum, y};
}

}  // namespace

Tensor rms_norm(Context& context, const Tensor& x, const Tensor& weight, float eps, Tensor* largest) {
  return normalise(context, x, Tensor(), weight, eps, largest).y;
}

AddRmsNorm add_rms_norm(Context& context, const Tensor& x, const Tensor& delta, const Tensor& weight,
                        float eps, Tensor* largest) {
  return normalise(context, x, delta, weight, eps, largest);
}

}  // namespace flagscale::op
