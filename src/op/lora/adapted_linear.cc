#include "op/lora/adapted_linear.h"

#include "base/error.h"
#include "op/packed_linear/unpacked_linear.h"

namespace flagscale::op {

namespace {

struct Base {
  Tensor weight;  // or
  PackedWeight packed;
  Tensor bias;
  int64_t in() const { return packed.defined() ? packed.in : weight.dim(1); }
  int64_t out() const { return packed.defined() ? packed.out() : weight.dim(0); }
};

void check_shapes(const Tensor& x, const Base& base, const Tensor& a,
                  const std::vector<LoraTarget>& targets) {
  const auto count = static_cast<int64_t>(targets.size());
  const bool dense =
      base.packed.defined() || (base.weight.shape().rank() == 2 && base.weight.dtype() == x.dtype());
  bool fits =
      dense && x.shape().rank() == 2 && a.shape().rank() == 2 && count > 0 && count <= kMostAdditions &&
      x.dim(1) == base.in() && a.dim(1) == x.dim(1) && x.dtype() == a.dtype() &&
      (!base.bias.defined() || (base.bias.shape() == Shape{base.out()} && base.bias.dtype() == x.dtype()));
  int64_t end = 0;  // each target's columns lie behind the one's before it
  for (const auto& [b, first] : targets) {
    fits = fits && b.shape().rank() == 2 && count * b.dim(1) == a.dim(0) && first >= end &&
           first + b.dim(0) <= base.out() && b.dtype() == x.dtype();
    end = fits ? first + b.dim(0) : end;
  }
  if (!fits)
    fail(ErrorKind::kInvalidArgument, "[adapted_linear] x {} {}, weight [{}, {}], a {} {}, {} targets",
         name(x.dtype()), x.shape().str(), base.out(), base.in(), name(a.dtype()), a.shape().str(), count);
}

double elements(const TensorView& t) { return static_cast<double>(t.dims[0] * t.dims[1]); }

// The product with `low` times the additions; shift: the product's first column among theirs.
void launch_adapted(Recorder& r, const MatmulArgs& product, const Tensor& low,
                    const std::vector<LoraTarget>& up, bool across, int64_t shift) {
  AdaptedMatmulArgs args;
  static_cast<MatmulArgs&>(args) = product;
  args.low = low;
  args.across = across;
  for (size_t i = 0; i < up.size(); ++i) args.up[i] = up[i].b, args.first[i] = up[i].first - shift;
  const TensorView& to = product.out.defined() ? static_cast<const TensorView&>(product.out) : product.sum;
  const double depth = static_cast<double>(product.a.dims[1] + args.rank()), size = elements(to);
  r.launch(kAdaptedMatmul, args, {2 * size * depth, 4 * (size + elements(product.a) + elements(product.b))});
}

void launch_thin(Recorder& r, const Tensor& x, const Tensor& w, const Tensor& out, float scale, bool across) {
  const double size = static_cast<double>(x.shape().numel());
  r.launch(kThinMatmul, {x, w, out, scale, across},
           {2 * size * static_cast<double>(out.dim(1)), static_cast<double>(x.bytes())});
}

void launch_gradient(Recorder& r, const Tensor& thin, const Tensor& wide, const Backward::Sink& sink,
                     bool transposed) {
  const double size = static_cast<double>(wide.shape().numel());
  r.launch(kThinGradient, {thin, wide, sink.grad, transposed, sink.accumulate},
           {2 * size * static_cast<double>(thin.dim(1)), static_cast<double>(wide.bytes())});
}

void launch_forward(Recorder& r, const Tensor& x, const Base& base, const Tensor& h,
                    const std::vector<LoraTarget>& targets, const Tensor& y) {
  const auto product = [&](Recorder& to, const MatmulArgs& args, int64_t first) {
    launch_adapted(to, args, h, targets, false, first);
  };
  if (base.packed.defined()) return launch_unpacked(r, x, base.packed, base.bias, y, product);
  MatmulArgs args{x, base.weight, y, {}, false, true, nullptr, {}};
  if (base.bias.defined()) args.bias = base.bias;
  product(r, args, 0);
}

// dx = dy W + dh A.
void give_input(Backward& back, const Tensor& dy, const Base& base, const Tensor& dh, const Tensor& a,
                const Tensor& x) {
  const Tensor dx = back.buffer(x);
  const std::vector<LoraTarget> up{{a, 0}};
  if (base.packed.defined())
    launch_unpacked_gradient(back.recorder, dy, base.packed, dx, false,
                             [&](Recorder& r, const MatmulArgs& args, int64_t first) {
                               first == 0 ? launch_adapted(r, args, dh, up, true, 0) : launch_matmul(r, args);
                             });
  else
    launch_adapted(back.recorder, {dy, base.weight, dx, {}, false, false, nullptr, {}}, dh, up, true, 0);
  back.give(x, dx);
}

void backward(Backward& back, const Tensor& x, const Base& base, const Tensor& a,
              const std::vector<LoraTarget>& targets, const Tensor& h, float scale) {
  Recorder& r = back.recorder;
  const Tensor dy = back.grad(0), dh = r.empty(h.shape(), h.dtype(), h.live());
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto& [b, first] = targets[i];
    const int64_t rank = b.dim(1), at = static_cast<int64_t>(i) * rank;
    const Tensor part = dy.columns(first, b.dim(0));
    if (const auto db = back.sink(b); db.grad.defined())
      launch_gradient(r, h.columns(at, rank), part, db, true);
    launch_thin(r, part, b, dh.columns(at, rank), scale, true);
  }
  if (const auto da = back.sink(a); da.grad.defined()) launch_gradient(r, dh, x, da, false);
  if (base.weight.defined())
    if (const auto dw = back.sink(base.weight); dw.grad.defined())
      launch_matmul(r, {dy, x, {}, dw.grad, true, false, dw.accumulate, {}});
  if (back.wants(x)) give_input(back, dy, base, dh, a, x);
}

}  // namespace

Tensor adapted_linear(Context& c, const Tensor& x, const Tensor& weight, const PackedWeight& packed,
                      const Tensor& bias, const Tensor& a, const std::vector<LoraTarget>& targets,
                      const LoraTraining& training) {
  const Base base{weight, packed, bias};
  check_shapes(x, base, a, targets);
  const Tensor h = c.recorder.empty({x.dim(0), a.dim(0)}, x.dtype(), x.live());
  const Tensor y = c.recorder.empty({x.dim(0), base.out()}, x.dtype(), x.live());
  launch_thin(c.recorder, x, a, h, training.scale, false);
  launch_forward(c.recorder, x, base, h, targets, y);
  if (!c.tape) return y;
  std::vector<Tensor> inputs{x, a};
  if (weight.defined()) inputs.push_back(weight);
  for (const LoraTarget& target : targets) inputs.push_back(target.b);
  c.tape->record(inputs, {y}, [=, scale = training.scale](Backward& back) {
    backward(back, x, base, a, targets, h, scale);
  });
  return y;
}

}  // namespace flagscale::op
