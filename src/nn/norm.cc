#include "nn/norm.h"

#include "op/rms_norm/rms_norm.h"

namespace flagscale::nn {

Normed norm(Context& context, const Tensor& x, const Tensor& delta, const Parameter& weight, float eps,
            const Linear* reader) {
  if (reader && reader->takes_rounded() && op::has_fp8_rms_norm(x.dim(1), x.dtype())) {
    const op::Fp8RmsNorm n = op::fp8_rms_norm(context, x, delta, weight.value, eps);
    return {n.sum, {}, n.y};
  }
  Tensor largest, *const measured = reader && reader->measures() ? &largest : nullptr;
  if (!delta.defined()) {
    const Tensor y = op::rms_norm(context, x, weight.value, eps, measured);
    return {x, y, {}, largest};
  }
  const op::AddRmsNorm n = op::add_rms_norm(context, x, delta, weight.value, eps, measured);
  return {n.sum, n.y, {}, largest};
}

Tensor of_norm(Context& context, Partition& partition, const Linear& reader, const Normed& x) {
  return x.rounded.defined() ? reader(context, x.rounded)
                             : reader(context, partition.enter_column(context, x.y), {}, x.largest);
}

}  // namespace flagscale::nn
