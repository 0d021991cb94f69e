// Small weights (below 4096 elements) keep their moments in fp32, as bitsandbytes' do: together they are
// nothing, and norms and biases are what is most sensitive. So do embeddings, as transformers' Trainer asks
// of bitsandbytes: a block holds a few tokens' rows, and a seldom one's numbers vanish beside a frequent
// one's.
#include "op/adamw8bit/adamw8bit.h"

#include "train/optimizer/adam.h"

namespace flagscale::train {
namespace {

constexpr int64_t kLeastElements = 4096;

class AdamW8bit final : public Optimizer {
 public:
  explicit AdamW8bit(const OptimizerSpec& spec) : spec_(spec), fp32_(spec) {}

  std::vector<Slot> slots(const nn::Parameter& parameter, const Shape& part) const override {
    if (part.numel() < kLeastElements || parameter.name.ends_with("embed_tokens.weight"))
      return fp32_.slots(parameter, part);
    const Shape blocks{op::state_blocks(part.numel())};
    return {{"exp_avg_8bit", DType::kU8, part},
            {"exp_avg_sq_8bit", DType::kU8, part},
            {"exp_avg_scale", DType::kF32, blocks, op::kStateBlock},
            {"exp_avg_sq_scale", DType::kF32, blocks, op::kStateBlock}};
  }

  std::vector<Piece> pieces(const nn::Parameter& parameter) const override {
    std::vector<Piece> pieces;
    for (const nn::Part& part : parameter.parts) {
      const Shape shape = part_shape(parameter, part);
      pieces.push_back(
          {shape.numel(), slots(parameter, shape).size() == 2 ? kLineElements : op::kStateBlock});
    }
    return pieces;
  }

  void update(const UpdateContext& context, const TrainedWeight& w) const override {
    w.for_parts([&](size_t part, Range some) { update_part(context, w, part, some); });
  }

 private:
  void update_part(const UpdateContext& context, const TrainedWeight& w, size_t part, Range some) const {
    const std::vector<Slot>& kept = w.slots[part];
    const Tensor value = w.elements(w.value, some), gradient = w.elements(w.gradient, some),
                 copy = w.copy.defined() ? w.elements(w.copy, some) : Tensor();
    const auto vector = [](const Slot& slot) { return slot.tensor().reshape({slot.held.size()}); };
    if (kept.size() == 2) {
      fp32_.launch(context, value, vector(kept[0]), vector(kept[1]), gradient, copy, w.parameter->decay);
      return;
    }
    op::AdamW8bitArgs args{value,
                           vector(kept[0]),
                           vector(kept[1]),
                           kept[2].tensor(),
                           kept[3].tensor(),
                           gradient,
                           context.norm,
                           {},
                           context.scalars,
                           static_cast<float>(spec_.adam_beta1),
                           static_cast<float>(spec_.adam_beta2),
                           static_cast<float>(spec_.adam_eps),
                           w.parameter->decay};
    if (copy.defined()) args.copy = copy;
    const auto elements = static_cast<double>(value.shape().numel());
    context.recorder.launch(op::kAdamW8bit, args, {30 * elements, (copy.defined() ? 18 : 16) * elements});
  }

  OptimizerSpec spec_;
  Adam fp32_;
};

const Registration<MakeOptimizer> kAdamW8bit{"adamw8bit", &make<AdamW8bit>};

}  // namespace
}  // namespace flagscale::train
