// The weights' fp8 numbers of a step whose products are in fp8.
#include <cstring>

#include "base/error.h"
#include "device/cuda/cuda.h"
#include "train/step.h"

namespace flagscale::train {

// Beside the weights in bf16 their numbers as they are and transposed; of an adapter's base the former alone,
// in place of bf16.
void TrainStep::place_fp8() {
  const Fp8Spec& fp8 = *options_.fp8;
  if (options_.compute != DType::kBF16)
    fail(ErrorKind::kConfig, "fp8 rounds the products of training in bf16: set bf16: true");
  if (decoder_->num_mixtures() > 0)
    fail(ErrorKind::kUnsupported, "experts are not trained in fp8 yet: train this mixture without fp8");
  if (!on_host() && !cuda::multiplies_fp8())
    fail(ErrorKind::kUnsupported,
         "training in fp8 needs a GPU of compute capability 9.0 (H100, H200): train without fp8");
  const std::vector<nn::Linear*> linears = decoder_->linears();
  const auto layers = static_cast<size_t>(decoder_->config().num_layers), each = linears.size() / layers;
  const bool frozen = adapter_ != nullptr;
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto layer = static_cast<int64_t>(i / each);
    if (layer < fp8.first_in_bf16 || layer >= static_cast<int64_t>(layers) - fp8.last_in_bf16) continue;
    nn::Parameter& weight = linears[i]->weight();
    if (frozen && stays_packed(weight))
      fail(ErrorKind::kUnsupported,
           "{} is held in fewer bits than bf16, whose products are not in fp8: train without fp8",
           weight.name);
    weight.fp8 = op::make_fp8_weight(
        weight.name, weight.shape, fp8.training,
        [&](const Shape& shape, DType dtype) {
          return arena_.persistent(frozen ? "frozen fp8" : "fp8 weights", shape, dtype);
        },
        frozen);
    fp8_.push_back(&weight);
  }
}

// keep: whether they are already, when the launches run: weights change between steps alone.
void TrainStep::round_weights(Recorder& recorder, const int64_t* keep) const {
  if (adapter_) return;
  for (const nn::Parameter* weight : fp8_) op::round_fp8_weight(recorder, weight->value, weight->fp8, keep);
}

// Each of them alone, from bf16 that no step has beside it.
void TrainStep::trace_base() {
  for (const nn::Parameter* weight : fp8_) {
    BaseRounding& one = base_roundings_[weight];
    one.program = std::make_unique<Program>("base");
    Tracer tracer(*one.program);
    one.values = tracer.empty(weight->shape, options_.compute);
    one.program->take(one.values);
    op::Fp8Weight to = weight->fp8;
    to.backward.q = tracer.empty({weight->shape[1], weight->shape[0]}, DType::kU8);
    op::round_fp8_weight(tracer, one.values, to);
    one.program->plan(isa_of(options_.device), team_.size());
    arena_.add(*one.program);
  }
}

void TrainStep::take_frozen(const nn::Parameter& parameter, const Tensor& values) {
  const auto rounding = base_roundings_.find(&parameter);
  const bool rounds = rounding != base_roundings_.end();
  const Tensor& to = rounds ? rounding->second.values : parameter.value;
  if (!on_host())
    copy_from_host(values.raw(), to);
  else if (to.raw() != values.raw())
    std::memcpy(to.raw(), values.raw(), values.bytes());
  if (rounds) rounding->second.program->run(team_);
}

}  // namespace flagscale::train
