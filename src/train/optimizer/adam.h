#pragma once
// AdamW, which others fall back on for the weights that they do not suit.

#include "train/optimizer/optimizer.h"

namespace flagscale::train {

class Adam final : public Optimizer {
 public:
  explicit Adam(const OptimizerSpec& spec)
      : beta1_(static_cast<float>(spec.adam_beta1)),
        beta2_(static_cast<float>(spec.adam_beta2)),
        eps_(static_cast<float>(spec.adam_eps)),
        types_(spec.types) {}
  std::vector<Slot> slots(const nn::Parameter& parameter, const Shape& part) const override;
  void update(const UpdateContext& context, const TrainedWeight& weight) const override;

  // Of some of a weight's elements.
  void launch(const UpdateContext& context, const Tensor& value, const Tensor& m, const Tensor& v,
              const Tensor& gradient, const Tensor& copy, bool decay) const;

 private:
  float beta1_, beta2_, eps_;
  StateTypes types_;
};

}  // namespace flagscale::train
