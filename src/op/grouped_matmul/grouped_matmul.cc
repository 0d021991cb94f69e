#include "op/grouped_matmul/grouped_matmul.h"

#include "base/error.h"

namespace flagscale::op {

void launch_grouped(Recorder& recorder, const GroupedMatmulArgs& args) {
  const auto elements = [](const TensorView& t) {
    double n = 1;
    for (int i = 0; i < t.rank; ++i) n *= static_cast<double>(t.dims[static_cast<size_t>(i)]);
    return n;
  };
  const TensorView& y = args.out.defined()   ? static_cast<const TensorView&>(args.out)
                        : args.sum.defined() ? args.sum
                                             : args.into;
  const double columns = static_cast<double>(args.sum.defined() ? args.b.cols() : y.cols());
  recorder.launch(kGroupedMatmul, args,
                  {2 * elements(args.a) * columns, static_cast<double>(size_of(args.a.dtype)) *
                                                       (elements(args.a) + elements(args.b) + elements(y))});
}

void give_grouped(Backward& b, const Tensor& dy, const Tensor& counts, const Tensor& weight,
                  const Tensor& x) {
  const Tensor dx = b.buffer(x);
  launch_grouped(b.recorder, {dy, weight, counts, dx, {}, false, nullptr});
  b.give(x, dx);
}

Tensor grouped_linear(Context& c, const Tensor& x, const Tensor& counts, const Tensor& weight) {
  const int64_t experts = counts.shape().rank() == 1 ? counts.dim(0) : 0;
  if (x.shape().rank() != 3 || weight.shape().rank() != 2 || experts < 1 || weight.dim(0) % experts != 0 ||
      x.dim(2) != weight.dim(1) || x.dtype() != weight.dtype() || counts.dtype() != DType::kI32)
    fail(ErrorKind::kInvalidArgument, "[grouped_linear] x is {} {}, weight {} {} of {} experts",
         name(x.dtype()), x.shape().str(), name(weight.dtype()), weight.shape().str(), experts);
  const Tensor y = c.recorder.empty({x.dim(0), x.dim(1), weight.dim(0) / experts}, x.dtype(), x.live());
  launch_grouped(c.recorder, {x, weight, counts, y, {}, true, nullptr});
  if (c.tape)
    c.tape->record({x, weight}, {y}, [=](Backward& b) {
      const Tensor dy = b.grad(0);
      if (const auto dweight = b.sink(weight); dweight.grad.defined())
        launch_grouped(b.recorder, {dy, x, counts, {}, dweight.grad, false, dweight.accumulate});
      if (b.wants(x)) give_grouped(b, dy, counts, weight, x);
    });
  return y;
}

}  // namespace flagscale::op
