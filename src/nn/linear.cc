#include "nn/linear.h"

#include "op/matmul/matmul.h"

namespace flagscale::nn {

Tensor Linear::operator()(Context& context, const Tensor& x, std::optional<DType> out) const {
  const Tensor bias = bias_ ? bias_->value : Tensor();
  return op::linear(context, x, weight_->value, bias, out.value_or(x.dtype()));
}

}  // namespace flagscale::nn
