#include "op/lora/lora.h"

#include "base/error.h"

namespace flagscale::op {

void lora(Context& c, const Tensor& x, const Tensor& slots, const Tensor& a, const Tensor& b,
          const Tensor& ranks, const Tensor& scales, const Tensor& y, int64_t experts) {
  const auto floats = [](const Tensor& t, const Shape& shape) {
    return t.dtype() == DType::kF32 && t.shape() == shape;
  };
  const auto ints = [](const Tensor& t, const Shape& shape) {
    return t.dtype() == DType::kI32 && t.shape() == shape;
  };
  const int dims = x.shape().rank() == 3 ? 3 : 2;
  const bool matrices = x.shape().rank() == dims && y.shape().rank() == dims && a.shape().rank() == 2 &&
                        b.shape().rank() == 2 && x.dim(-1) > 0 && experts > 0;
  const int64_t count = matrices ? a.dim(0) : 0, in = matrices ? x.dim(-1) : 1,
                out = matrices ? y.dim(-1) : 1;
  const int64_t rank = matrices ? a.dim(-1) / (in * experts) : 0;
  Shape rows = x.shape(), wide = x.shape();
  if (matrices) rows = dims == 2 ? Shape{x.dim(0)} : Shape{x.dim(0), x.dim(1)}, wide[dims - 1] = out;
  const bool good = matrices && rank > 0 && rank <= kMaxLoraRank && x.dtype() == DType::kF32 &&
                    floats(y, wide) && floats(a, {count, experts * rank * in}) &&
                    floats(b, {count, experts * rank * out}) && ints(slots, rows) && ints(ranks, {count}) &&
                    floats(scales, {count});
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[lora] x {}, slots {}, a {}, b {}, ranks {}, scales {}, y {}",
         x.shape().str(), slots.shape().str(), a.shape().str(), b.shape().str(), ranks.shape().str(),
         scales.shape().str(), y.shape().str());
  const double work = static_cast<double>(rows.numel() * rank * (in + out));
  c.recorder.launch(
      kLora, {x, slots, a, b, ranks, scales, y, experts},
      {2 * work, static_cast<double>(x.bytes() + 2 * y.bytes()) +
                     static_cast<double>(a.bytes() + b.bytes()) / static_cast<double>(experts)});
}

}  // namespace flagscale::op
