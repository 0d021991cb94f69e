#include "op/matmul/matmul.h"

#include "base/error.h"
#include "op/elementwise/elementwise.h"
#include "op/matmul/matmul_onednn.h"

namespace flagscale::op {

namespace {

struct Size {
  int64_t m, n, k;
};

Size size_of_product(const MatmulArgs& args) {
  const TensorView &a = args.a, &b = args.b,
                   &c = args.out.defined() ? static_cast<const TensorView&>(args.out) : args.sum;
  const bool flat = a.rank == 2 && b.rank == 2 && c.rank == 2 && args.out.defined() != args.sum.defined();
  const int64_t m = a.dims[args.trans_a ? 1 : 0], ka = a.dims[args.trans_a ? 0 : 1];
  const int64_t kb = b.dims[args.trans_b ? 1 : 0], n = b.dims[args.trans_b ? 0 : 1];
  if (!flat || ka != kb || c.dims[0] != m || c.dims[1] != n || a.dtype != b.dtype)
    fail(ErrorKind::kInvalidArgument, "[matmul] {} [{}, {}]{} times {} [{}, {}]{} does not give [{}, {}]",
         name(a.dtype), a.dims[0], a.dims[1], args.trans_a ? "^T" : "", name(b.dtype), b.dims[0], b.dims[1],
         args.trans_b ? "^T" : "", c.dims[0], c.dims[1]);
  return {m, n, ka};
}

}  // namespace

void launch_matmul(Recorder& recorder, const MatmulArgs& args) {
  const Size s = size_of_product(args);
  const auto bytes = [](const TensorView& t) {
    return static_cast<double>(t.dims[0] * t.dims[1]) * static_cast<double>(flagscale::size_of(t.dtype));
  };
  const double out = args.out.defined() ? bytes(args.out) : 2 * bytes(args.sum);
  const Cost cost{2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k),
                  bytes(args.a) + bytes(args.b) + out};
  std::unique_ptr<Launch> other = onednn_product(args);
  if (!other) return recorder.launch(kMatmul, args, cost);
  other->cost = cost;
  recorder.launch(std::move(other));
}

void give_product(Backward& b, const Tensor& dy, const Tensor& weight, const Tensor& x) {
  const Tensor dx = b.buffer(x);
  launch_matmul(b.recorder, {dy, weight, dx, {}, false, false, nullptr, {}});
  b.give(x, dx);
}

Tensor linear(Context& context, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return linear(context, x, weight, bias, x.dtype());
}

Tensor linear(Context& c, const Tensor& x, const Tensor& weight, const Tensor& bias, DType out, bool steady) {
  if (x.shape().rank() != 2 || weight.shape().rank() != 2 || x.dim(1) != weight.dim(1) ||
      (bias.defined() && bias.shape() != Shape{weight.dim(0)}))
    fail(ErrorKind::kInvalidArgument, "[linear] x is {}, weight {}, bias {}", x.shape().str(),
         weight.shape().str(), bias.defined() ? bias.shape().str() : "absent");
  const Tensor y = c.recorder.empty({x.dim(0), weight.dim(0)}, out, x.live());
  MatmulArgs forward{x, weight, y, {}, false, true, nullptr, {}, steady};
  if (bias.defined()) forward.bias = bias;
  launch_matmul(c.recorder, forward);
  if (!c.tape) return y;
  std::vector<Tensor> inputs{x, weight};
  if (bias.defined()) inputs.push_back(bias);
  c.tape->record(inputs, {y}, [=](Backward& b) {
    Context plain{b.recorder};  // fp32 results of a bf16 product have fp32 gradients
    const Tensor dy = out == x.dtype() ? b.grad(0) : cast(plain, b.grad(0), x.dtype());
    const auto dweight = b.sink(weight);
    if (dweight.grad.defined())
      launch_matmul(b.recorder, {dy, x, {}, dweight.grad, true, false, dweight.accumulate, {}});
    if (bias.defined())
      if (const auto dbias = b.sink(bias); dbias.grad.defined())
        b.recorder.launch(kBiasGrad, {dy, dbias.grad, dbias.accumulate},
                          {0, static_cast<double>(dy.bytes())});
    if (b.wants(x)) give_product(b, dy, weight, x);
  });
  return y;
}

}  // namespace flagscale::op
