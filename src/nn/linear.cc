#include "nn/linear.h"

#include "op/lora/lora.h"
#include "op/matmul/matmul.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::nn {

Tensor Linear::operator()(Context& context, const Tensor& x, std::optional<DType> out) const {
  const Tensor bias = bias_ ? bias_->value : Tensor();
  const Tensor y = weight_->packed.defined() ? op::packed_linear(context, x, weight_->packed, bias)
                                             : op::linear(context, x, weight_->value, bias,
                                                          out.value_or(x.dtype()), weight_->steady);
  if (!lora_) return y;
  for (const LoraPart& part : lora_->parts)
    if (lora_->slots.defined())
      op::lora(context, x, lora_->slots, part.a, part.b, part.ranks, part.scales,
               y.columns(part.first, part.rows));
    else
      op::train_lora(context, x, part.a, part.b, part.training, y, part.first);
  return y;
}

std::vector<LoraPart> Linear::lora_parts() const {
  constexpr std::string_view kSuffix = ".weight";
  std::vector<LoraPart> parts;
  int64_t first = 0;
  for (const Part& part : weight_->parts) {
    parts.push_back({part.name.substr(0, part.name.size() - kSuffix.size()),
                     first,
                     part.rows,
                     weight_->shape[1],
                     {},
                     {},
                     {},
                     {},
                     {}});
    first += part.rows;
  }
  return parts;
}

}  // namespace flagscale::nn
