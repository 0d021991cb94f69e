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
              t.dropout == 0 && x.dtype() == a.dtype() && x.dtype() == y.dtype();
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

// y += B h.
void add_up(Recorder& r, const Tensor& h, const Tensor& counts, const Tensor& b, const Tensor& y) {
  if (y.dtype() != DType::kBF16)  // sums of a product are never bf16
    return launch_grouped(r, {h, b, counts, {}, {}, true, nullptr, y});
  const Tensor more = r.empty(y.shape(), y.dtype(), y.live());
  launch_grouped(r, {h, b, counts, more, {}, true, nullptr});
  r.launch(kAdd, {more, y, y}, {0, 3 * static_cast<double>(more.bytes())});
}

void backward(Backward& back, const Tensor& x, const Tensor& counts, const Tensor& a,
              const std::vector<LoraTarget>& targets, const Tensor& h, float scale, const Tensor& upstream) {
  Recorder& r = back.recorder;
  const int64_t experts = counts.shape().numel();
  const Tensor dh = r.empty(h.shape(), h.dtype(), h.live());
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    const int64_t rank = b.dim(1), at = static_cast<int64_t>(i) * rank;
    const Tensor dy = upstream.columns(first, b.dim(0) / experts);
    if (const auto db = back.sink(b); db.grad.defined())
      launch_grouped(r, {dy, h.columns(at, rank), counts, {}, db.grad, false, db.accumulate});
    launch_grouped(r, {dy, b, counts, dh.columns(at, rank), {}, false, nullptr});
  }
  scale_rows(r, dh, scale);
  if (const auto da = back.sink(a); da.grad.defined())
    launch_grouped(r, {dh, x, counts, {}, da.grad, false, da.accumulate});
  if (back.wants(x)) give_grouped(back, dh, counts, a, x);
}

}  // namespace

void train_expert_lora(Context& c, const Tensor& x, const Tensor& counts, const Tensor& a,
                       const std::vector<LoraTarget>& targets, const LoraTraining& t, const Tensor& y) {
  check_shapes(x, counts, a, targets, t, y);
  Recorder& r = c.recorder;
  const int64_t experts = counts.shape().numel();
  const Tensor h = r.empty({x.dim(0), x.dim(1), a.dim(0) / experts}, x.dtype(), x.live());
  launch_grouped(r, {x, a, counts, h, {}, true, nullptr});
  scale_rows(r, h, t.scale);
  std::vector<Tensor> inputs{x, a};
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    add_up(r, h.columns(static_cast<int64_t>(i) * b.dim(1), b.dim(1)), counts, b,
           y.columns(first, b.dim(0) / experts));
    inputs.push_back(b);
  }
  if (c.tape)
    c.tape->record(inputs, {y},
                   [=](Backward& back) { backward(back, x, counts, a, targets, h, t.scale, back.grad(0)); });
}

}  // namespace flagscale::op
