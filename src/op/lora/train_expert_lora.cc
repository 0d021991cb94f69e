// As train_lora.cc, with grouped products.
#include "base/error.h"
#include "op/elementwise/elementwise.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/lora/lora.h"

namespace flagscale::op {

namespace {

void check_shapes(const Tensor& x, const Tensor& counts, const Tensor& a,
                  const std::vector<LoraTarget>& targets, const LoraTraining& t, const Tensor& y) {
  const int64_t experts = counts.shape().numel(), count = static_cast<int64_t>(targets.size());
  const bool flat = x.shape().rank() == 3 && y.shape().rank() == 3 && a.shape().rank() == 2 &&
                    counts.dtype() == DType::kI32 && experts > 0 && count > 0;
  bool fits = flat && a.dim(1) == x.dim(2) && x.dim(0) == y.dim(0) && x.dim(1) == y.dim(1) &&
              (count == 1 || t.dropout == 0) && x.dtype() == a.dtype() && x.dtype() == y.dtype();
  for (const auto& [b, first] : targets)
    fits = fits && b.shape().rank() == 2 && b.dim(0) % experts == 0 &&
           b.dim(1) * count * experts == a.dim(0) && first >= 0 && first + b.dim(0) / experts <= y.dim(2) &&
           b.dtype() == x.dtype();
  if (!fits)
    fail(ErrorKind::kInvalidArgument,
         "[train_expert_lora] x {}, counts {}, a {}, {} targets, the first b {}, and y {}", x.shape().str(),
         counts.shape().str(), a.shape().str(), count, count > 0 ? targets[0].b.shape().str() : "",
         y.shape().str());
}

void scale_rows(Recorder& r, const Tensor& x, float scale) {
  launch_dropout(r, {x, x, scale, 0, 0, 0, nullptr});
}

void drop(Recorder& r, const Tensor& x, const Tensor& to, const Tensor& choices, const LoraTraining& t) {
  launch_dropout(r, {x, to, 1, t.dropout, t.seed, t.stream, t.rows, choices});
}
Tensor dropped(Recorder& r, const Tensor& x, const Tensor& choices, const LoraTraining& t) {
  const Tensor out = r.empty(x.shape(), x.dtype(), x.live());
  drop(r, x, out, choices, t);
  return out;
}

bool drops_before(const LoraTraining& t) { return t.dropout > 0 && !t.dropout_after; }
bool drops_after(const LoraTraining& t) { return t.dropout > 0 && t.dropout_after; }

// What a call keeps for its backward pass.
struct Call {
  Tensor x, counts, choices, a;
  std::vector<LoraTarget> targets;
  LoraTraining training;
  Tensor h;
};

// y += B h.
void add_up(Recorder& r, const Call& call, const Tensor& h, const Tensor& b, const Tensor& y) {
  const bool drops = drops_after(call.training);
  if (y.dtype() != DType::kBF16 && !drops)  // sums of a product are never bf16
    return launch_grouped(r, {h, b, call.counts, {}, {}, true, nullptr, y});
  const Tensor more = r.empty(y.shape(), y.dtype(), y.live());
  launch_grouped(r, {h, b, call.counts, more, {}, true, nullptr});
  if (drops) drop(r, more, more, call.choices, call.training);
  r.launch(kAdd, {more, y, y}, {0, 3 * static_cast<double>(more.bytes())});
}

void backward(Backward& back, const Call& call, const Tensor& upstream) {
  Recorder& r = back.recorder;
  const auto& [x, counts, choices, a, targets, t, h] = call;
  const int64_t experts = counts.shape().numel();
  const Tensor dh = r.empty(h.shape(), h.dtype(), h.live());
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    const int64_t rank = b.dim(1), at = static_cast<int64_t>(i) * rank;
    const Tensor part = upstream.columns(first, b.dim(0) / experts),
                 dy = drops_after(t) ? dropped(r, part, choices, t) : part;
    if (const auto db = back.sink(b); db.grad.defined())
      launch_grouped(r, {dy, h.columns(at, rank), counts, {}, db.grad, false, db.accumulate});
    launch_grouped(r, {dy, b, counts, dh.columns(at, rank), {}, false, nullptr});
  }
  scale_rows(r, dh, t.scale);
  if (const auto da = back.sink(a); da.grad.defined())
    launch_grouped(
        r, {dh, drops_before(t) ? dropped(r, x, choices, t) : x, counts, {}, da.grad, false, da.accumulate});
  if (!back.wants(x)) return;
  if (!drops_before(t)) return give_grouped(back, dh, counts, a, x);
  const Tensor dx = back.buffer(x);
  launch_grouped(r, {dh, a, counts, dx, {}, false, nullptr});
  drop(r, dx, dx, choices, t);
  back.give(x, dx);
}

}  // namespace

void train_expert_lora(Context& c, const Tensor& x, const Tensor& counts, const Tensor& choices,
                       const Tensor& a, const std::vector<LoraTarget>& targets, const LoraTraining& t,
                       const Tensor& y) {
  check_shapes(x, counts, a, targets, t, y);
  Recorder& r = c.recorder;
  const int64_t experts = counts.shape().numel();
  const Tensor h = r.empty({x.dim(0), x.dim(1), a.dim(0) / experts}, x.dtype(), x.live());
  const Call call{x, counts, choices, a, targets, t, h};
  launch_grouped(r, {drops_before(t) ? dropped(r, x, choices, t) : x, a, counts, h, {}, true, nullptr});
  scale_rows(r, h, t.scale);
  std::vector<Tensor> inputs{x, a};
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    add_up(r, call, h.columns(static_cast<int64_t>(i) * b.dim(1), b.dim(1)), b,
           y.columns(first, b.dim(0) / experts));
    inputs.push_back(b);
  }
  if (c.tape) c.tape->record(inputs, {y}, [=](Backward& back) { backward(back, call, back.grad(0)); });
}

}  // namespace flagscale::op
