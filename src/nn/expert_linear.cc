#include "nn/expert_linear.h"

#include "base/check.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/narrow_grouped/narrow_grouped.h"
#include "op/packed_linear/unpacked_linear.h"

namespace flagscale::nn {

std::string LoraPart::module_of(int64_t expert) const {
  std::string name = module;
  if (const size_t star = name.find('*'); star != std::string::npos)
    name.replace(star, 1, std::to_string(expert));
  return name;
}

Tensor ExpertLinear::product(Context& context, const ExpertRows& at) const {
  if (weight_->narrow.defined()) return op::narrow_grouped(context, at.rows, at.counts, weight_->narrow);
  const op::PackedWeight& packed = weight_->packed;
  if (!packed.defined()) return op::grouped_linear(context, at.rows, at.counts, weight_->value);
  if (weight_->unpacked) return op::unpacked_grouped(context, at.rows, at.counts, packed);
  return op::packed_grouped(context, at.rows, at.counts, packed);
}

Tensor ExpertLinear::operator()(Context& context, const ExpertRows& at, const Tensor& slots) const {
  if (lora_ && slots.defined()) {
    const std::vector<op::LoraSlots> parts = lora_slots(lora_->parts);
    const int64_t experts = lora_->parts[0].experts;
    const op::LoraHidden hidden = op::lora_down(context, at.rows, slots, parts, experts);
    const Tensor y = product(context, at);
    op::lora_up(context, at.rows, hidden, slots, parts, y, experts);
    return y;
  }
  const Tensor y = product(context, at);
  if (lora_)
    lora_->for_targets(
        [&](const Tensor& a, const std::vector<op::LoraTarget>& targets, const op::LoraTraining& training) {
          op::train_expert_lora(context, at.rows, at.counts, at.choices, a, targets, training, y);
        });
  return y;
}

std::vector<LoraPart> ExpertLinear::lora_parts() const {
  constexpr std::string_view kSuffix = ".weight", kFirst = ".experts.0.";
  const int64_t experts = weight_->groups;
  std::vector<LoraPart> parts;
  int64_t first = 0;
  for (size_t i = 0; i < weight_->parts.size() / static_cast<size_t>(experts); ++i) {
    const Part& part = weight_->parts[i];
    LoraPart of;
    of.module = part.name.substr(0, part.name.size() - kSuffix.size());
    const size_t at = of.module.find(kFirst);
    FLAGSCALE_CHECK(at != std::string::npos);  // as the decoder names them
    of.module.replace(at, kFirst.size(), ".experts.*.");
    of.first = first, of.rows = part.rows, of.in = weight_->shape[1], of.experts = experts;
    parts.push_back(std::move(of));
    first += part.rows;
  }
  return parts;
}

}  // namespace flagscale::nn
