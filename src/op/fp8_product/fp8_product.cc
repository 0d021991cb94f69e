#include "op/fp8_product/fp8_product.h"

#include "base/error.h"
#include "op/matmul/matmul.h"

namespace flagscale::op {

namespace {

Shape scales_shape(Fp8Scales shared, int64_t rows, int64_t k) {
  switch (shared) {
    case Fp8Scales::kTensor:
      return {1};
    case Fp8Scales::kRow128:
      return {k / 128, rows};
    default:
      return {rows / 128, (k / 128 + 3) / 4 * 4};
  }
}

Fp8Scales shared_by(Fp8Recipe recipe, bool weight) {
  if (recipe == Fp8Recipe::kTensorwise) return Fp8Scales::kTensor;
  return weight ? Fp8Scales::kSquare128 : Fp8Scales::kRow128;
}

void launch_round(Recorder& recorder, const Tensor& x, const Fp8Factor& rows, const Fp8Factor& columns,
                  const int64_t* keep = nullptr, const Tensor& largest = {}) {
  const Fp8Factor& any = rows.defined() ? rows : columns;
  Fp8RoundArgs args{x, {}, {}, any.scales, {}, any.format, any.shared, keep, {}};
  if (any.shared == Fp8Scales::kTensor && largest.defined()) args.largest = largest;
  if (rows.defined()) args.rows = rows.q;
  if (columns.defined()) args.columns = columns.q;
  if (any.shared != Fp8Scales::kTensor) {
    if (!rows.defined()) args.row_scales = {};
    if (columns.defined()) args.column_scales = columns.scales;
  }
  const auto n = static_cast<double>(x.shape().numel());
  const double copies = (rows.defined() ? 1 : 0) + (columns.defined() ? 1 : 0);
  const bool looks = any.shared == Fp8Scales::kTensor && !args.largest.defined();
  recorder.launch(kFp8Round, args, {0, n * (2 * (looks ? 2 : 1) + copies)});
}

struct Rounded {
  Fp8Factor rows, columns;
};

// x or dy of a product, for one or both of its uses.
Rounded rounded(Recorder& recorder, const Tensor& x, Fp8 format, Fp8Recipe recipe, bool rows, bool columns,
                const Tensor& largest) {
  const Fp8Scales shared = shared_by(recipe, false);
  const int64_t m = x.dim(0), n = x.dim(1);
  Rounded made;
  if (rows)
    made.rows = {recorder.empty({m, n}, DType::kU8), recorder.empty(scales_shape(shared, m, n), DType::kF32),
                 format, shared};
  if (columns)
    made.columns = {recorder.empty({n, m}, DType::kU8),
                    rows && shared == Fp8Scales::kTensor
                        ? made.rows.scales
                        : recorder.empty(scales_shape(shared, n, m), DType::kF32),
                    format, shared};
  launch_round(recorder, x, made.rows, made.columns, nullptr, largest);
  return made;
}

void launch_product(Recorder& recorder, const Fp8Factor& a, const Fp8Factor& b, const Tensor& out,
                    const Tensor& bias, const Backward::Sink* sum = nullptr) {
  Fp8ProductArgs args{a.q, a.scales, b.q,      b.scales, {},       {},
                      {},  a.format, b.format, a.shared, b.shared, nullptr};
  if (sum) {
    args.sum = sum->grad;
    args.accumulate = sum->accumulate;
  } else {
    args.out = out;
  }
  if (bias.defined()) args.bias = bias;
  const auto m = static_cast<double>(a.q.dim(0)), n = static_cast<double>(b.q.dim(0)),
             k = static_cast<double>(a.q.dim(1));
  recorder.launch(kFp8Product, args, {2 * m * n * k, m * k + n * k + m * n * (sum ? 8 : 2)});
}

void check(const Tensor& x, const Tensor& weight, const Fp8Weight& rounded, const Tensor& bias) {
  const int64_t multiple = fp8_multiple(rounded.training.recipe);
  const Tensor& q = rounded.forward.q;
  const bool of_weight = !weight.defined() || (weight.dtype() == DType::kBF16 && weight.shape() == q.shape());
  const bool fits = x.shape().rank() == 2 && x.dtype() == DType::kBF16 && q.shape().rank() == 2 &&
                    x.dim(1) == q.dim(1) && of_weight && (!bias.defined() || bias.shape() == Shape{q.dim(0)});
  if (!fits)
    fail(ErrorKind::kInvalidArgument, "[fp8_product] x is {} {}, weight {}, its numbers {}, bias {}",
         flagscale::name(x.dtype()), x.shape().str(), weight.defined() ? weight.shape().str() : "absent",
         q.shape().str(), bias.defined() ? bias.shape().str() : "absent");
  if (x.dim(0) % multiple != 0)
    fail(ErrorKind::kUnsupported,
         "fp8_recipe: {} needs a multiple of {} tokens in a micro-batch, this one has {}: change "
         "micro_batch_size "
         "or seq_length",
         name(rounded.training.recipe), multiple, x.dim(0));
}

// As dy W takes the weight.
Fp8Factor transposed(Recorder& recorder, const Fp8Weight& w) {
  Fp8Factor along = w.backward;
  if (along.defined()) return along;
  const Tensor& q = w.forward.q;
  along.q = recorder.empty({q.dim(1), q.dim(0)}, DType::kU8);
  recorder.launch(kFp8Transpose, {q, along.q}, {0, 2 * static_cast<double>(q.bytes())});
  return along;
}

}  // namespace

const char* name(Fp8Recipe recipe) { return recipe == Fp8Recipe::kTensorwise ? "tensorwise" : "blockwise"; }

Fp8Weight make_fp8_weight(const std::string& weight_name, const Shape& weight, Fp8Training training,
                          const std::function<Tensor(const Shape&, DType)>& make, bool once) {
  const int64_t multiple = fp8_multiple(training.recipe);
  if (weight.rank() != 2 || weight[0] % multiple != 0 || weight[1] % multiple != 0)
    fail(ErrorKind::kUnsupported,
         "fp8_recipe: {} needs sizes of products that are multiples of {}, {} is {}: train without fp8{}",
         name(training.recipe), multiple, weight_name, weight.str(),
         multiple == 128 && weight.rank() == 2 && weight[0] % 16 == 0 && weight[1] % 16 == 0
             ? ", or set fp8_recipe: tensorwise"
             : "");
  const Fp8Scales shared = shared_by(training.recipe, true);
  Fp8Weight made{training, {}, {}};
  made.forward = {make(weight, DType::kU8), make(scales_shape(shared, weight[0], weight[1]), DType::kF32),
                  Fp8::kE4M3, shared};
  made.backward = {once ? Tensor() : make({weight[1], weight[0]}, DType::kU8),
                   shared == Fp8Scales::kTensor
                       ? made.forward.scales
                       : make(scales_shape(shared, weight[1], weight[0]), DType::kF32),
                   Fp8::kE4M3, shared};
  return made;
}

void round_fp8_weight(Recorder& recorder, const Tensor& weight, const Fp8Weight& to, const int64_t* keep) {
  launch_round(recorder, weight, to.forward, to.backward, keep);
}

Tensor fp8_training_linear(Context& c, const Tensor& x, const Tensor& weight, const Fp8Weight& w,
                           const Tensor& bias, const Tensor& largest) {
  check(x, weight, w, bias);
  const Fp8Training training = w.training;
  const bool keeps = c.tape && c.tape->needs(weight);
  const Rounded of_x = rounded(c.recorder, x, Fp8::kE4M3, training.recipe, true, keeps, largest);
  const Tensor y = c.recorder.empty({x.dim(0), w.forward.q.dim(0)}, DType::kBF16, x.live());
  launch_product(c.recorder, of_x.rows, w.forward, y, bias);
  if (!c.tape) return y;
  std::vector<Tensor> inputs{x};
  if (weight.defined()) inputs.push_back(weight);
  if (bias.defined()) inputs.push_back(bias);
  const Fp8Factor kept = of_x.columns;
  c.tape->record(inputs, {y}, [=](Backward& b) {
    const Tensor dy = b.grad(0);
    const auto dweight = b.sink(weight);
    if (bias.defined())
      if (const auto dbias = b.sink(bias); dbias.grad.defined())
        b.recorder.launch(kBiasGrad, {dy, dbias.grad, dbias.accumulate},
                          {0, static_cast<double>(dy.bytes())});
    const bool wanted = b.wants(x);
    if (!wanted && !dweight.grad.defined()) return;
    const Rounded of_dy = rounded(b.recorder, dy, training.gradients, training.recipe, wanted,
                                  dweight.grad.defined(), b.largest(y));
    if (dweight.grad.defined()) launch_product(b.recorder, of_dy.columns, kept, {}, {}, &dweight);
    if (!wanted) return;
    const Tensor dx = b.buffer(x);
    launch_product(b.recorder, of_dy.rows, transposed(b.recorder, w), dx, {});
    b.give(x, dx);
  });
  if (w.measures()) c.tape->measures(y);
  return y;
}

}  // namespace flagscale::op
