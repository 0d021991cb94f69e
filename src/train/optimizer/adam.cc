#include "train/optimizer/adam.h"

namespace flagscale::train {

std::vector<Slot> Adam::slots(const nn::Parameter&, const Shape& part) const {
  return {{"exp_avg", types_.exp_avg, part}, {"exp_avg_sq", types_.exp_avg_sq, part}};
}

void Adam::update(const UpdateContext& context, const TrainedWeight& weight) const {
  launch(context, weight.value, weight.whole(0), weight.whole(1), weight.gradient, weight.copy,
         weight.parameter->decay);
}

void Adam::launch(const UpdateContext& context, const Tensor& value, const Tensor& m, const Tensor& v,
                  const Tensor& gradient, const Tensor& copy, bool decay) const {
  op::AdamWArgs args{value, m, v, gradient, context.norm, {}, context.scalars, beta1_, beta2_, eps_, decay};
  if (copy.defined()) args.copy = copy;
  const double changed = static_cast<double>(value.bytes() + m.bytes() + v.bytes());
  const double once = static_cast<double>(gradient.bytes() + (copy.defined() ? copy.bytes() : 0));
  context.recorder.launch(op::kAdamW, args,
                          {12 * static_cast<double>(value.shape().numel()), 2 * changed + once});
}

namespace {
const Registration<MakeOptimizer> kAdam{"adam", &make<Adam>};
}  // namespace

}  // namespace flagscale::train
