#include "nn/partition.h"

#include "op/cross_entropy/cross_entropy.h"
#include "op/elementwise/elementwise.h"
#include "op/embedding/embedding.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::nn {

Tensor Partition::look_up(Context& context, const Tensor& ids, const Parameter& table) {
  if (table.packed.defined()) {
    const Tensor rows = op::packed_rows(context, ids, table.packed);
    const DType wanted = table.unpacked.value_or(rows.dtype());
    return wanted == rows.dtype() ? rows : op::cast(context, rows, wanted);
  }
  return op::embedding(context, ids, table.value);
}

Tensor Partition::vocabulary_loss(Context& context, const Tensor& hidden, const Parameter& head,
                                  const Tensor& labels, const Tensor& mask, const float* grad_scale,
                                  const op::LearntTokens* learnt) {
  if (head.packed.defined())
    return op::head_loss(context, hidden, head.packed, labels, mask, grad_scale, learnt);
  return op::head_loss(context, hidden, head.value, labels, mask, grad_scale, learnt);
}

}  // namespace flagscale::nn
