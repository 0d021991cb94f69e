#include "nn/linear.h"

#include "op/fp8_linear/fp8_linear.h"
#include "op/fp8_product/fp8_product.h"
#include "op/lora/adapted_linear.h"
#include "op/lora/lora.h"
#include "op/matmul/matmul.h"
#include "op/narrow_linear/narrow_linear.h"
#include "op/packed_linear/unpacked_linear.h"
#include "op/swiglu/swiglu.h"

namespace flagscale::nn {

Tensor Linear::product(Context& context, const Tensor& x, DType out, const Tensor& largest) const {
  const Tensor bias = bias_ ? bias_->value : Tensor();
  const op::PackedWeight& packed = weight_->packed;
  if (const op::NarrowWeight& narrow = weight_->narrow; narrow.defined())
    return narrow.format == op::Narrow::kFp8Rows ? op::fp8_linear(context, x, narrow, bias, out)
                                                 : op::narrow_linear(context, x, narrow, bias, out);
  if (weight_->fp8.defined())
    return op::fp8_training_linear(context, x, weight_->value, weight_->fp8, bias, largest);
  if (!packed.defined()) return op::linear(context, x, weight_->value, bias, out, weight_->steady);
  if (weight_->unpacked) return op::unpacked_linear(context, x, packed, bias, out);
  return op::packed_linear(context, x, packed, bias);
}

// Whether base and adapter are one product.
bool Linear::is_one_product(const Tensor& x, DType out) const {
  if (!lora_ || lora_->slots.defined() || out != x.dtype() || weight_->fp8.defined()) return false;
  const bool trains = !weight_->packed.defined() || weight_->unpacked;
  const auto& parts = lora_->parts;
  return trains && (lora_->a.defined() || parts.size() == 1) && std::ssize(parts) <= op::kMostAdditions &&
         parts[0].training.on_host && parts[0].training.dropout == 0;
}

Tensor Linear::operator()(Context& context, const Tensor& x, std::optional<DType> out,
                          const Tensor& largest) const {
  if (is_one_product(x, out.value_or(x.dtype()))) {
    Tensor y;
    lora_->for_targets(
        [&](const Tensor& a, const std::vector<op::LoraTarget>& targets, const op::LoraTraining& training) {
          y = op::adapted_linear(context, x, weight_->value, weight_->packed, bias_ ? bias_->value : Tensor(),
                                 a, targets, training);
        });
    return y;
  }
  if (lora_ && lora_->slots.defined()) {
    const std::vector<op::LoraSlots> parts = lora_slots(lora_->parts);
    const op::LoraHidden hidden = op::lora_down(context, x, lora_->slots, parts);
    const Tensor y = product(context, x, out.value_or(x.dtype()), largest);
    op::lora_up(context, x, hidden, lora_->slots, parts, y);
    return y;
  }
  const Tensor y = product(context, x, out.value_or(x.dtype()), largest);
  if (lora_)
    lora_->for_targets(
        [&](const Tensor& a, const std::vector<op::LoraTarget>& targets, const op::LoraTraining& training) {
          op::train_lora(context, x, a, targets, training, y);
        });
  return y;
}

std::vector<op::LoraSlots> lora_slots(const std::vector<LoraPart>& parts) {
  std::vector<op::LoraSlots> slots;
  for (const LoraPart& part : parts)
    slots.push_back({part.a, part.b, part.ranks, part.scales, part.first, part.rows});
  return slots;
}

bool Linear::takes_rounded() const {
  return weight_->narrow.defined() && weight_->narrow.format == op::Narrow::kFp8Rows && !lora_;
}

Tensor Linear::operator()(Context& context, const op::Fp8Rows& x) const {
  return op::fp8_linear(context, x, weight_->narrow, bias_ ? bias_->value : Tensor(), DType::kBF16);
}

Tensor Linear::of_gated(Context& context, const Tensor& gate, const Tensor& up) const {
  if (takes_rounded())
    return op::fp8_gated_linear(context, gate, up, weight_->narrow, bias_ ? bias_->value : Tensor(),
                                gate.dtype());
  Tensor largest;
  const Tensor gated = op::swiglu(context, gate, up, measures() ? &largest : nullptr);
  return (*this)(context, gated, {}, largest);
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
