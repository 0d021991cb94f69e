#include "op/expert_rows/expert_rows.h"

#include "base/error.h"

namespace flagscale::op {

namespace {

void launch_spread(Recorder& recorder, const Tensor& x, const ExpertOrder& order, const Tensor& weights,
                   const Tensor& y) {
  SpreadArgs args{x, order.choices, {}, y};
  if (weights.defined()) args.weights = weights;
  recorder.launch(kSpread, args, {0, static_cast<double>(x.bytes() + y.bytes())});
}

void launch_gather(Recorder& recorder, const Tensor& x, const ExpertOrder& order, const Tensor& weights,
                   const Tensor& y) {
  GatherArgs args{x, order.rows, {}, y};
  if (weights.defined()) args.weights = weights;
  recorder.launch(kGather, args,
                  {2 * static_cast<double>(x.shape().numel()), static_cast<double>(x.bytes() + y.bytes())});
}

}  // namespace

ExpertOrder sort_by_expert(Context& c, const Tensor& experts, int64_t num_experts) {
  if (experts.shape().rank() != 2 || experts.dtype() != DType::kI32 || num_experts < 1)
    fail(ErrorKind::kInvalidArgument, "[sort_by_expert] choices are {} {} of {} experts",
         name(experts.dtype()), experts.shape().str(), num_experts);
  const ExpertOrder order{c.recorder.empty({num_experts}, DType::kI32), c.recorder.empty_like(experts),
                          c.recorder.empty_like(experts)};
  c.recorder.launch(kSortByExpert, {experts, order.counts, order.rows, order.choices},
                    {0, 3 * static_cast<double>(experts.bytes())});
  return order;
}

Tensor expert_slots(Context& c, const Tensor& slots, const ExpertOrder& order) {
  if (slots.dtype() != DType::kI32 || slots.shape() != Shape{order.choices.dim(0)})
    fail(ErrorKind::kInvalidArgument, "[expert_slots] slots are {} {}, choices {}", name(slots.dtype()),
         slots.shape().str(), order.choices.shape().str());
  const Tensor rows = c.recorder.empty(order.choices.shape(), DType::kI32, slots.live());
  c.recorder.launch(kExpertSlots, {slots, order.counts, order.choices, rows},
                    {0, 2 * static_cast<double>(rows.bytes())});
  return rows;
}

Tensor spread_to_experts(Context& c, const Tensor& x, const ExpertOrder& order) {
  if (x.shape().rank() != 2 || x.dim(0) != order.choices.dim(0))
    fail(ErrorKind::kInvalidArgument, "[spread] x is {}, choices {}", x.shape().str(),
         order.choices.shape().str());
  const Tensor y = c.recorder.empty({x.dim(0), order.choices.dim(1), x.dim(1)}, x.dtype(), x.live());
  launch_spread(c.recorder, x, order, {}, y);
  if (c.tape)
    c.tape->record({x}, {y}, [=](Backward& b) {
      const Tensor dx = b.buffer(x);
      launch_gather(b.recorder, b.grad(0), order, {}, dx);
      b.give(x, dx);
    });
  return y;
}

Tensor gather_from_experts(Context& c, const Tensor& x, const Tensor& weights, const ExpertOrder& order) {
  const Shape& s = x.shape();
  if (s.rank() != 3 || weights.shape() != Shape{s[0], s[1]} || order.rows.shape() != weights.shape())
    fail(ErrorKind::kInvalidArgument, "[gather] rows are {}, weights {}, order {}", s.str(),
         weights.shape().str(), order.rows.shape().str());
  const Tensor y = c.recorder.empty({s[0], s[2]}, x.dtype(), x.live());
  launch_gather(c.recorder, x, order, weights, y);
  if (c.tape)
    c.tape->record({x, weights}, {y}, [=](Backward& b) {
      if (b.wants(weights)) {
        const Tensor dweights = b.buffer(weights);
        b.recorder.launch(kGatherWeights, {x, order.rows, b.grad(0), dweights},
                          {2 * static_cast<double>(x.shape().numel()), 2 * static_cast<double>(x.bytes())});
        b.give(weights, dweights);
      }
      if (!b.wants(x)) return;
      const Tensor dx = b.buffer(x);
      launch_spread(b.recorder, b.grad(0), order, weights, dx);
      b.give(x, dx);
    });
  return y;
}

}  // namespace flagscale::op
