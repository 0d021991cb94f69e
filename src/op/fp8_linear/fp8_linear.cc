#include "op/fp8_linear/fp8_linear.h"

#include "base/error.h"

namespace flagscale::op {

Tensor fp8_linear(Context& c, const Tensor& x, const NarrowWeight& weight, const Tensor& bias, DType out) {
  const int64_t rows = weight.scales.dim(0);
  if (weight.format != Narrow::kFp8Rows || x.shape().rank() != 2 || x.dim(1) != weight.in ||
      x.dtype() != DType::kBF16 ||
      (bias.defined() && (bias.shape() != Shape{rows} || bias.dtype() != DType::kBF16)))
    fail(ErrorKind::kInvalidArgument,
         "[fp8_linear] x is {} {}, weight [{}, {}], bias {}: bf16 is expected, and a weight in rows of fp8",
         name(x.dtype()), x.shape().str(), rows, weight.in, bias.defined() ? bias.shape().str() : "absent");
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
