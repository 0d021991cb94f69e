#include "nn/mlp.h"

namespace flagscale::nn {

Tensor Mlp::operator()(Context& context, Partition& partition, const Tensor& x) const {
  const Tensor both = gate_up(context, partition.enter_column(context, x));
  return partition.exit_row(context, down.of_gated(context, both.columns(0, size), both.columns(size, size)));
}

}  // namespace flagscale::nn
