#include "op/embedding/embedding.h"

#include "base/error.h"

namespace flagscale::op {

Tensor embedding(Context& c, const Tensor& ids, const Tensor& table) {
  if (ids.dtype() != DType::kI32 || ids.shape().rank() != 1 || table.shape().rank() != 2)
    fail(ErrorKind::kInvalidArgument, "[embedding] ids are {} {}, expected int32 [tokens]; table is {}",
         name(ids.dtype()), ids.shape().str(), table.shape().str());
  const Tensor y = c.recorder.empty({ids.dim(0), table.dim(1)}, table.dtype(), ids.live());
  const double bytes = static_cast<double>(y.bytes());
  c.recorder.launch(kEmbedding, {ids, table, y}, {0, 2 * bytes});
  if (c.tape)
    c.tape->record({table}, {y}, [=](Backward& b) {
      const auto sink = b.sink(table);
      if (sink.grad.defined())
        b.recorder.launch(kEmbeddingBackward, {ids, b.grad(0), sink.grad, sink.accumulate},
                          {bytes, 3 * bytes});
    });
  return y;
}

}  // namespace flagscale::op
