#include "op/lion/lion.h"

#include "train/optimizer/optimizer.h"

namespace flagscale::train {
namespace {

class Lion final : public Optimizer {
 public:
  explicit Lion(const OptimizerSpec& spec)
      : beta1_(static_cast<float>(spec.lion_beta1)), beta2_(static_cast<float>(spec.lion_beta2)) {}

  std::vector<Slot> slots(const nn::Parameter&, const Shape& part) const override {
    return {{"exp_avg", DType::kF32, part}};
  }

  void update(const UpdateContext& context, const TrainedWeight& w) const override {
    op::LionArgs args{w.value,         w.whole(0), w.gradient, context.norm,      {},
                      context.scalars, beta1_,     beta2_,     w.parameter->decay};
    if (w.copy.defined()) args.copy = w.copy;
    const auto elements = static_cast<double>(w.value.shape().numel());
    context.recorder.launch(op::kLion, args, {10 * elements, (w.copy.defined() ? 22 : 20) * elements});
  }

 private:
  float beta1_, beta2_;
};

const Registration<MakeOptimizer> kLion{"lion", &make<Lion>};

}  // namespace
}  // namespace flagscale::train
