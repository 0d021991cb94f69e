#include "nn/norm.h"

#include "op/rms_norm/rms_norm.h"

namespace flagscale::nn {

Normed norm(Context& context, const Tensor& x, const Tensor& delta, const Parameter& weight, float eps,
            const Linear* reader) {
  if (reader && reader->takes_rounded() && op::has_fp8_rms_norm(x.dim(1), x.dtype())) {
    const op::Fp8RmsNorm n = op::fp8_rms_norm(context, x, delta, weight.value, eps);
    return {n.sum, {}, n.y};
  }
  if (!delta.defined()) return {x, op::rms_norm(context, x, weight.value, eps), {}};
  const op::AddRmsNorm n = op::add_rms_norm(context, x, delta, weight.value, eps);
  return {n.sum, n.y, {}};
}

Tensor of_norm(Context& context, Partition& partition, const Linear& reader, const Normed& x) {
  return x.rounded.defined() ? reader(context, x.rounded)
                             : reader(context, partition.enter_column(context, x.y));
}

}  // namespace flagscale::nn
