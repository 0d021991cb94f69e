#include "op/draw_rows/draw_rows.h"

#include "base/error.h"

namespace flagscale::op {

Tensor draw_rows(Context& c, const Tensor& x, const Tensor& how, Tensor drawn) {
  constexpr int64_t kMostColumns = int64_t{1} << 19;
  if (x.shape().rank() != 2 || x.dtype() != DType::kF32 || x.dim(1) > kMostColumns ||
      how.shape() != Shape{x.dim(0), kDrawWords})
    fail(ErrorKind::kInvalidArgument,
         "[draw_rows] x is {} {}, expected rows of at most {} float32; how is {}", name(x.dtype()),
         x.shape().str(), kMostColumns, how.shape().str());
  if (!drawn.defined()) drawn = c.recorder.empty({x.dim(0)}, DType::kI32, x.live());
  if (drawn.shape() != Shape{x.dim(0)} || drawn.dtype() != DType::kI32)
    fail(ErrorKind::kInvalidArgument, "[draw_rows] drawn is {} {}, expected int32 [{}]", name(drawn.dtype()),
         drawn.shape().str(), x.dim(0));
  c.recorder.launch(kDrawRows, {x, how, drawn}, {0, static_cast<double>(x.bytes())});
  return drawn;
}

}  // namespace flagscale::op
