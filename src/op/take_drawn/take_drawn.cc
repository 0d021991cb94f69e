#include "op/take_drawn/take_drawn.h"

#include "base/error.h"

namespace flagscale::op {

Tensor take_drawn(Context& c, const Tensor& ids, const Tensor& rows, const Tensor& drawn) {
  for (const Tensor* x : {&ids, &rows, &drawn})
    if (x->dtype() != DType::kI32 || x->shape().rank() != 1 || (x == &rows && rows.shape() != ids.shape()))
      fail(ErrorKind::kInvalidArgument,
           "[take_drawn] ids are {} {}, rows {} {}, drawn {} {}: expected int32 [tokens], [tokens], [rows]",
           name(ids.dtype()), ids.shape().str(), name(rows.dtype()), rows.shape().str(), name(drawn.dtype()),
           drawn.shape().str());
  const Tensor y = c.recorder.empty(ids.shape(), DType::kI32, ids.live());
  c.recorder.launch(kTakeDrawn, {ids, rows, drawn, y}, {0, 4 * static_cast<double>(y.bytes())});
  return y;
}

}  // namespace flagscale::op
