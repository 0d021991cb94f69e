#include "op/lora/lora.h"

#include <algorithm>

#include "base/error.h"

namespace flagscale::op {

namespace {

void check_part(const Tensor& x, const Tensor& slots, const LoraSlots& part, int64_t experts) {
  const auto& [a, b, ranks, scales, y] = part;
  const auto is = [](const Tensor& t, DType dtype, const Shape& shape) {
    return t.dtype() == dtype && t.shape() == shape;
  };
  const int dims = x.shape().rank() == 3 ? 3 : 2;
  const DType type = x.dtype();
  const bool matrices = x.shape().rank() == dims && y.shape().rank() == dims && a.shape().rank() == 2 &&
                        b.shape().rank() == 2 && x.dim(-1) > 0 && experts > 0;
  const int64_t count = matrices ? a.dim(0) : 0, in = matrices ? x.dim(-1) : 1,
                out = matrices ? y.dim(-1) : 1;
  const int64_t rank = matrices ? a.dim(-1) / (in * experts) : 0;
  Shape rows = x.shape(), wide = x.shape();
  if (matrices) rows = dims == 2 ? Shape{x.dim(0)} : Shape{x.dim(0), x.dim(1)}, wide[dims - 1] = out;
  const bool good = matrices && rank > 0 && rank <= kMaxLoraRank &&
                    (type == DType::kF32 || type == DType::kBF16) && is(y, type, wide) &&
                    is(a, type, {count, experts * rank * in}) && is(b, type, {count, experts * rank * out}) &&
                    is(slots, DType::kI32, rows) && is(ranks, DType::kI32, {count}) &&
                    is(scales, DType::kF32, {count});
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[lora] x {} {}, slots {}, a {}, b {}, ranks {}, scales {}, y {}",
         name(type), x.shape().str(), slots.shape().str(), a.shape().str(), b.shape().str(),
         ranks.shape().str(), scales.shape().str(), y.shape().str());
}

}  // namespace

void lora(Context& c, const Tensor& x, const Tensor& slots, const std::vector<LoraSlots>& parts,
          int64_t experts) {
  for (size_t first = 0; first < parts.size(); first += kMostLoraParts) {
    LoraArgs args{x, slots, {}, experts};
    double numbers = static_cast<double>(x.shape().numel()), products = 0;
    for (size_t i = 0; i < std::min<size_t>(kMostLoraParts, parts.size() - first); ++i) {
      const LoraSlots& part = parts[first + i];
      check_part(x, slots, part, experts);
      args.parts[i] = {part.a, part.b, part.ranks, part.scales, part.y};
      const double of_matrices =
          static_cast<double>(part.a.shape().numel() + part.b.shape().numel()) / static_cast<double>(experts);
      products += static_cast<double>(x.shape().numel() / x.dim(-1)) * of_matrices /
                  static_cast<double>(part.a.dim(0));
      numbers += 2 * static_cast<double>(part.y.shape().numel()) + of_matrices;
    }
    c.recorder.launch(kLora, args, {2 * products, numbers * static_cast<double>(size_of(x.dtype()))});
  }
}

}  // namespace flagscale::op
