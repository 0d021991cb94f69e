#include "op/lora/lora.h"

#include "base/error.h"

namespace flagscale::op {

void lora(Context& c, const Tensor& x, const Tensor& slots, const Tensor& a, const Tensor& b,
          const Tensor& ranks, const Tensor& scales, const Tensor& y) {
  const auto floats = [](const Tensor& t, const Shape& shape) {
    return t.dtype() == DType::kF32 && t.shape() == shape;
  };
  const auto ints = [](const Tensor& t, const Shape& shape) {
    return t.dtype() == DType::kI32 && t.shape() == shape;
  };
  const bool matrices =
      x.shape().rank() == 2 && y.shape().rank() == 2 && a.shape().rank() == 2 && b.shape().rank() == 2;
  const int64_t count = a.dim(0), rank = matrices && x.dim(1) > 0 ? a.dim(1) / x.dim(1) : 0;
  const bool good = matrices && rank > 0 && rank <= kMaxLoraRank && floats(x, {x.dim(0), x.dim(1)}) &&
                    floats(y, {x.dim(0), y.dim(1)}) && floats(a, {count, rank * x.dim(1)}) &&
                    floats(b, {count, rank * y.dim(1)}) && ints(slots, {x.dim(0)}) && ints(ranks, {count}) &&
                    floats(scales, {count});
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[lora] x {}, slots {}, a {}, b {}, ranks {}, scales {}, y {}",
         x.shape().str(), slots.shape().str(), a.shape().str(), b.shape().str(), ranks.shape().str(),
         scales.shape().str(), y.shape().str());
  const double work = static_cast<double>(x.dim(0) * rank * (x.dim(1) + y.dim(1)));
  c.recorder.launch(kLora, {x, slots, a, b, ranks, scales, y},
                    {2 * work, static_cast<double>(a.bytes() + b.bytes() + x.bytes() + 2 * y.bytes())});
}

}  // namespace flagscale::op
