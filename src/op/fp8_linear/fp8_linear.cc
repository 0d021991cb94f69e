#include "op/fp8_linear/fp8_linear.h"

namespace flagscale::op {

Tensor fp8_linear(Context& c, const Tensor& x, const NarrowWeight& weight, const Tensor& bias, DType out) {
  const int64_t rows = weight.out;
  check_product("fp8_linear", x, weight, bias, true);
  const Tensor y = c.recorder.empty({x.dim(0), rows}, out, x.live());
  Fp8LinearArgs args{x, weight.data, weight.scales, {}, y};
  if (bias.defined()) args.bias = bias;
  c.recorder.launch(
      kFp8Linear, args,
      {2.0 * static_cast<double>(x.dim(0)) * static_cast<double>(rows) * static_cast<double>(weight.in),
       static_cast<double>(x.bytes() + weight.bytes() + y.bytes())});
  return y;
}

}  // namespace flagscale::op
