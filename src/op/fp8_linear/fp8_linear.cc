#include "op/fp8_linear/fp8_linear.h"

#include "base/error.h"

namespace flagscale::op {
namespace {

// x_scales, up: as in Fp8LinearArgs.
Tensor product(Context& c, const Tensor& x, const Tensor& x_scales, const Tensor& up,
               const NarrowWeight& weight, const Tensor& bias, DType out) {
  const int64_t of_x = (x_scales.defined() ? x_scales : x).dim(0), rows = weight.out;
  const Tensor y = c.recorder.empty({of_x, rows}, out, x.live());
  Fp8LinearArgs args{x, {}, {}, weight.data, weight.scales, {}, y};
  if (x_scales.defined()) args.x_scales = x_scales;
  if (up.defined()) args.up = up;
  if (bias.defined()) args.bias = bias;
  c.recorder.launch(
      kFp8Linear, args,
      {2.0 * static_cast<double>(of_x) * static_cast<double>(rows) * static_cast<double>(weight.in),
       static_cast<double>(x.bytes() + (up.defined() ? up.bytes() : 0) + weight.bytes() + y.bytes())});
  return y;
}

}  // namespace

Tensor fp8_linear(Context& c, const Tensor& x, const NarrowWeight& weight, const Tensor& bias, DType out) {
  check_product("fp8_linear", x, weight, bias, true);
  return product(c, x, {}, {}, weight, bias, out);
}

Tensor fp8_linear(Context& c, const Fp8Rows& x, const NarrowWeight& weight, const Tensor& bias, DType out) {
  if (weight.format != Narrow::kFp8Rows || x.in != weight.in ||
      (bias.defined() && (bias.shape() != Shape{weight.out} || bias.dtype() != DType::kBF16)))
    fail(
        ErrorKind::kInvalidArgument,
        "[fp8_linear] x has rows of {}, weight is {} [{}, {}], bias {}: a weight in rows of fp8 is expected, "
        "and a bias of bf16",
        x.in, name(weight.format), weight.out, weight.in, bias.defined() ? bias.shape().str() : "absent");
  return product(c, x.numbers, x.scales, {}, weight, bias, out);
}

Tensor fp8_gated_linear(Context& c, const Tensor& gate, const Tensor& up, const NarrowWeight& weight,
                        const Tensor& bias, DType out) {
  if (gate.shape() != up.shape() || gate.dtype() != up.dtype())
    fail(ErrorKind::kInvalidArgument, "[fp8_linear] gate is {}, up is {}", gate.shape().str(),
         up.shape().str());
  check_product("fp8_linear", gate, weight, bias, true);
  return product(c, gate, {}, up, weight, bias, out);
}

}  // namespace flagscale::op
