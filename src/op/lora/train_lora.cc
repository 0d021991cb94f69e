// Products of the training step's own kind (op/matmul), so every float type and instruction set works. With
// h = scale A x:  y += B h;  dB = dy^T h;  dh = scale dy B;  dA = dh^T x;  dx += dh A.
#include "base/error.h"
#include "op/elementwise/elementwise.h"
#include "op/lora/lora.h"
#include "op/matmul/matmul.h"

namespace flagscale::op {

namespace {

void check_shapes(const Tensor& x, const Tensor& a, const std::vector<LoraTarget>& targets,
                  const LoraTraining& t, const Tensor& y) {
  const auto count = static_cast<int64_t>(targets.size());
  const bool flat = x.shape().rank() == 2 && a.shape().rank() == 2 && y.shape().rank() == 2 && count > 0;
  bool fits = flat && x.dim(0) == y.dim(0) && a.dim(1) == x.dim(1) && x.dtype() == a.dtype() &&
              x.dtype() == y.dtype() && (count == 1 || t.dropout == 0);
  for (const auto& [b, first] : targets)
    fits = fits && b.shape().rank() == 2 && count * b.dim(1) == a.dim(0) && first >= 0 &&
           first + b.dim(0) <= y.dim(1) && b.dtype() == x.dtype();
  if (!fits)
    fail(ErrorKind::kInvalidArgument,
         "[train_lora] x {} {}, a {} {}, {} targets, the first b {} {}, and y {} {}", name(x.dtype()),
         x.shape().str(), name(a.dtype()), a.shape().str(), count,
         count > 0 ? name(targets[0].b.dtype()) : "", count > 0 ? targets[0].b.shape().str() : "",
         name(y.dtype()), y.shape().str());
}

// What dropout leaves of x where it acts there; a new tensor each time, so that none is kept.
Tensor dropped(Recorder& r, const Tensor& x, const LoraTraining& t) {
  const Tensor out = r.empty(x.shape(), x.dtype(), x.live());
  launch_dropout(r, {x, out, 1, t.dropout, t.seed, t.stream, t.rows});
  return out;
}

void scale_in_place(Recorder& r, const Tensor& x, float scale) {
  launch_dropout(r, {x, x, scale, 0, 0, 0, nullptr});
}

// y += B h.
void add_up(Recorder& r, const Tensor& h, const Tensor& b, const LoraTraining& t, const Tensor& y) {
  const bool drops = t.dropout > 0 && t.dropout_after;
  if (!drops) return launch_matmul(r, {h, b, {}, y, false, true, nullptr, {}});
  const Tensor more = r.empty(y.shape(), y.dtype(), y.live());
  launch_matmul(r, {h, b, more, {}, false, true, nullptr, {}});
  launch_dropout(r, {more, more, 1, t.dropout, t.seed, t.stream, t.rows});
  r.launch(kAdd, {more, y, y}, {0, 3 * static_cast<double>(more.bytes())});
}

void backward(Backward& back, const Tensor& x, const Tensor& a, const std::vector<LoraTarget>& targets,
              const Tensor& h, const LoraTraining& t, const Tensor& upstream) {
  Recorder& r = back.recorder;
  const bool before = t.dropout > 0 && !t.dropout_after, after = t.dropout > 0 && t.dropout_after;
  const Tensor dh = r.empty(h.shape(), h.dtype(), h.live());
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    const int64_t rank = b.dim(1), at = static_cast<int64_t>(i) * rank;
    const Tensor part = upstream.columns(first, b.dim(0)), dy = after ? dropped(r, part, t) : part;
    if (const auto db = back.sink(b); db.grad.defined())
      launch_matmul(r, {dy, h.columns(at, rank), {}, db.grad, true, false, db.accumulate, {}});
    launch_matmul(r, {dy, b, dh.columns(at, rank), {}, false, false, nullptr, {}});
  }
  scale_in_place(r, dh, t.scale);
  if (const auto da = back.sink(a); da.grad.defined()) {
    back.when_made_again(x, [=](Backward& b, const Tensor& again) {
      const Tensor in = before ? dropped(b.recorder, again, t) : again;
      launch_matmul(b.recorder, {dh, in, {}, da.grad, true, false, da.accumulate, {}});
    });
  }
  if (!back.wants(x)) return;
  if (!before) {
    const Tensor sum = back.sum(x);  // the product's own dx, mostly
    if (!sum.defined()) return give_product(back, dh, a, x);
    return launch_matmul(r, {dh, a, {}, sum, false, false, nullptr, {}});
  }
  const Tensor dx = back.buffer(x);
  launch_matmul(r, {dh, a, dx, {}, false, false, nullptr, {}});
  launch_dropout(r, {dx, dx, 1, t.dropout, t.seed, t.stream, t.rows});
  back.give(x, dx);
}

}  // namespace

void train_lora(Context& c, const Tensor& x, const Tensor& a, const std::vector<LoraTarget>& targets,
                const LoraTraining& t, const Tensor& y) {
  check_shapes(x, a, targets, t, y);
  const bool before = t.dropout > 0 && !t.dropout_after;
  const Tensor h = c.recorder.empty({x.dim(0), a.dim(0)}, x.dtype(), x.live());
  launch_matmul(c.recorder, {before ? dropped(c.recorder, x, t) : x, a, h, {}, false, true, nullptr, {}});
  scale_in_place(c.recorder, h, t.scale);
  std::vector<Tensor> inputs{x, a};
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    add_up(c.recorder, h.columns(static_cast<int64_t>(i) * b.dim(1), b.dim(1)), b, t,
           y.columns(first, b.dim(0)));
    inputs.push_back(b);
  }
  if (c.tape)
    c.tape->record_addition(inputs, y,
                            [=](Backward& back) { backward(back, x, a, targets, h, t, back.grad(0)); });
}

}  // namespace flagscale::op
