#include "op/fp8_linear/fp8_linear.h"

#include "base/error.h"

namespace flagscale::op {
namespace {

Tensor product(Context& c, const Tensor& x, const Tensor& up, const NarrowWeight& weight, const Tensor& bias,
               DType out) {
  const int64_t rows = weight.out;
  check_product("fp8_linear", x, weight, bias, true);
  const Tensor y = c.recorder.empty({x.dim(0), rows}, out, x.live());
  Fp8LinearArgs args{x, {}, weight.data, weight.scales, {}, y};
  if (up.defined()) args.up = up;
  if (bias.defined()) args.bias = bias;
  c.recorder.launch(
      kFp8Linear, args,
      {2.0 * static_cast<double>(x.dim(0)) * static_cast<double>(rows) * static_cast<double>(weight.in),
       static_cast<double>(x.bytes() + (up.defined() ? up.bytes() : 0) + weight.bytes() + y.bytes())});
  return y;
}

}  // namespace

Tensor fp8_linear(Context& c, const Tensor& x, const NarrowWeight& weight, const Tensor& bias, DType out) {
  return product(c, x, {}, weight, bias, out);
}

Tensor fp8_gated_linear(Context& c, const Tensor& gate, const Tensor& up, const NarrowWeight& weight,
                        const Tensor& bias, DType out) {
  if (gate.shape() != up.shape() || gate.dtype() != up.dtype())
    fail(ErrorKind::kInvalidArgument, "[fp8_linear] gate is {}, up is {}", gate.shape().str(),
         up.shape().str());
  return product(c, gate, up, weight, bias, out);
}

}  // namespace flagscale::op
