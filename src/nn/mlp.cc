#include "nn/mlp.h"

#include "op/swiglu/swiglu.h"

namespace flagscale::nn {

Tensor Mlp::operator()(Context& context, Partition& partition, const Tensor& x) const {
  const Tensor both = gate_up(context, partition.enter_column(context, x));
  const Tensor gated = op::swiglu(context, both.columns(0, size), both.columns(size, size));
  return partition.exit_row(context, down(context, gated));
}

}  // namespace flagscale::nn
