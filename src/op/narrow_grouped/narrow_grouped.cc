#include "op/narrow_grouped/narrow_grouped.h"

#include "base/error.h"

namespace flagscale::op {

Tensor narrow_grouped(Context& c, const Tensor& x, const Tensor& counts, const NarrowWeight& weight) {
  const int64_t rows = weight.out, experts = counts.shape().rank() == 1 ? counts.dim(0) : 0;
  if (weight.format == Narrow::kFp8Rows || x.shape().rank() != 3 || x.dim(2) != weight.in ||
      x.dtype() != DType::kBF16 || counts.dtype() != DType::kI32 || experts < 1 || rows % experts != 0 ||
      rows / experts % kPanelRows != 0)
    fail(ErrorKind::kInvalidArgument, "[narrow_grouped] x is {} {}, the weight {} [{}, {}] of {} experts",
         name(x.dtype()), x.shape().str(), name(weight.format), rows, weight.in, experts);
  const Tensor y = c.recorder.empty({x.dim(0), x.dim(1), rows / experts}, x.dtype(), x.live());
  c.recorder.launch(kNarrowGrouped, {x, counts, weight.data, weight.scales, y, weight.format},
                    {2.0 * static_cast<double>(y.shape().numel()) * static_cast<double>(weight.in),
                     static_cast<double>(x.bytes() + weight.bytes() + y.bytes())});
  return y;
}

}  // namespace flagscale::op
