#include "nn/mlp.h"

namespace flagscale::nn {

Tensor Mlp::operator()(Context& context, Partition& partition, const Tensor& x) const {
  return (*this)(context, partition, Normed{{}, x, {}});
}

Tensor Mlp::operator()(Context& context, Partition& partition, const Normed& x) const {
  const Tensor both = of_norm(context, partition, gate_up, x);
  return partition.exit_row(context, down.of_gated(context, both.columns(0, size), both.columns(size, size)));
}

}  // namespace flagscale::nn
