#include "nn/partition.h"

#include "op/cross_entropy/cross_entropy.h"
#include "op/embedding/embedding.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::nn {

Tensor Partition::look_up(Context& context, const Tensor& ids, const Parameter& table) {
  if (table.packed.defined()) return op::packed_rows(context, ids, table.packed);
  return op::embedding(context, ids, table.value);
}

Tensor Partition::vocabulary_loss(Context& context, const Tensor& hidden, const Parameter& head,
                                  const Tensor& labels, const Tensor& mask, const float* grad_scale) {
  return op::head_loss(context, hidden, head.value, labels, mask, grad_scale);
}

}  // namespace flagscale::nn
