#include "nn/moe.h"

#include "op/elementwise/elementwise.h"
#include "op/expert_rows/expert_rows.h"
#include "op/gated_add/gated_add.h"
#include "op/swiglu/swiglu.h"

namespace flagscale::nn {

Tensor Moe::run_experts(Context& context, const ExpertRows& at, const Tensor& slots) const {
  const Tensor both = weights_.gate_up(context, at, slots);
  const int64_t size = both.dim(2) / 2;
  const Tensor gated = op::swiglu(context, both.columns(0, size), both.columns(size, size));
  return weights_.down(context, {gated, at.counts, at.choices}, slots);
}

// Where adapters are served: of each expert's row, undefined in training.
Tensor Moe::slots_of_rows(Context& context, const op::ExpertOrder& order) const {
  const Lora* lora = weights_.gate_up.lora() ? weights_.gate_up.lora() : weights_.down.lora();
  if (!lora || !lora->slots.defined()) return {};
  return op::expert_slots(context, lora->slots, order);
}

Tensor Moe::operator()(Context& context, Partition& partition, const Tensor& x,
                       const op::RouterLosses* losses) const {
  const Tensor logits = Linear(*weights_.router, nullptr)(context, x, DType::kF32);
  const op::Routing routing = op::route(context, logits, {}, router_, losses, index_);
  const op::ExpertOrder order = op::sort_by_expert(context, routing.experts, experts_);
  const ExpertRows rows = partition.dispatch_experts(
      context, {op::spread_to_experts(context, x, order), order.counts, order.choices});
  const Tensor results =
      partition.combine_experts(context, run_experts(context, rows, slots_of_rows(context, order)));
  Tensor y = op::gather_from_experts(context, results, routing.weights, order);
  if (!weights_.shared) return y;
  const Tensor shared = (*weights_.shared)(context, partition, x);
  if (!weights_.shared_gate) return op::add(context, y, shared);
  return op::gated_add(context, y, Linear(*weights_.shared_gate, nullptr)(context, x, DType::kF32), shared);
}

}  // namespace flagscale::nn
