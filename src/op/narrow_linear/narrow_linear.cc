#include "op/narrow_linear/narrow_linear.h"

namespace flagscale::op {

Tensor narrow_linear(Context& c, const Tensor& x, const NarrowWeight& weight, const Tensor& bias, DType out) {
  const int64_t rows = weight.out;
  check_product("narrow_linear", x, weight, bias, false);
  const Tensor y = c.recorder.empty({x.dim(0), rows}, out, x.live());
  NarrowLinearArgs args{x, weight.data, weight.scales, {}, y, weight.format};
  if (bias.defined()) args.bias = bias;
  c.recorder.launch(
      kNarrowLinear, args,
      {2.0 * static_cast<double>(x.dim(0)) * static_cast<double>(rows) * static_cast<double>(weight.in),
       static_cast<double>(x.bytes() + weight.bytes() + y.bytes())});
  return y;
}

}  // namespace flagscale::op
