#include "op/sgd/sgd.h"

#include "train/optimizer/optimizer.h"

namespace flagscale::train {
namespace {

class Sgd final : public Optimizer {
 public:
  explicit Sgd(const OptimizerSpec& spec) : momentum_(static_cast<float>(spec.sgd_momentum)) {}

  std::vector<Slot> slots(const nn::Parameter&, const Shape& part) const override {
    if (momentum_ == 0) return {};
    return {{"momentum_buffer", DType::kF32, part}};
  }

  void update(const UpdateContext& context, const TrainedWeight& w) const override {
    op::SgdArgs args{w.value,         {},        w.gradient,        context.norm, {},
                     context.scalars, momentum_, w.parameter->decay};
    if (momentum_ != 0) args.m = w.whole(0);
    if (w.copy.defined()) args.copy = w.copy;
    const auto elements = static_cast<double>(w.value.shape().numel());
    const double bytes = 12 + (momentum_ != 0 ? 8 : 0) + (w.copy.defined() ? 2 : 0);
    context.recorder.launch(op::kSgd, args, {6 * elements, bytes * elements});
  }

 private:
  float momentum_;
};

const Registration<MakeOptimizer> kSgd{"sgd", &make<Sgd>};

}  // namespace
}  // namespace flagscale::train
