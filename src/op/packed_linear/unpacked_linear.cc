#include "op/packed_linear/unpacked_linear.h"

#include <algorithm>

#include "base/error.h"
#include "op/elementwise/elementwise.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/matmul/matmul.h"

namespace flagscale::op {

namespace {

constexpr int64_t kOverwrite = 0;

constexpr int64_t kMostElements = 2 << 20;  // of a piece, where that is a panel or more

// Rows [first, first + rows) of each group in a dense piece [groups * in, rows]. Its lines are an odd count
// of cache lines apart: products walk down its columns.
Tensor unpack(Recorder& r, const PackedWeight& weight, const PackedSegment& s, int64_t first, int64_t rows,
              DType dtype) {
  const int64_t pitch = ((rows + 15) / 16 | 1) * 16, lines = weight.groups * weight.in;
  const Tensor piece = r.empty({lines, pitch}, dtype).columns(0, rows);
  r.launch(kUnpack, {s.data, piece, s.packing, first, weight.groups},
           {0, static_cast<double>(lines * rows) * static_cast<double>(1 + size_of(dtype))});
  return piece;
}

int64_t rows_of_piece(const PackedWeight& weight) {
  const int64_t most = kMostElements / (weight.groups * weight.in) / kPanel * kPanel;
  return std::clamp(most, kPanel, kUnpackedRows);
}

// Calls body(piece, its first output) for all of the weight.
template <class Body>
void for_pieces(Recorder& r, const PackedWeight& weight, DType dtype, Body&& body) {
  int64_t at = 0;
  const int64_t most = rows_of_piece(weight);
  for (const PackedSegment& s : weight.segments)
    for (int64_t first = 0; first < s.rows; first += most) {
      const int64_t rows = std::min(most, s.rows - first);
      body(unpack(r, weight, s, first, rows, dtype), at);
      at += rows;
    }
}

// dx (+)= the sum over all pieces; product(part of dy, piece, sum, accumulate, first output) adds one's. Sums
// of bf16 gradients wait in fp32.
template <class Product>
void add_up(Recorder& r, const Tensor& dy, const PackedWeight& weight, const Tensor& dx, bool adds,
            Product&& product) {
  const bool narrow = dx.dtype() == DType::kBF16;
  const Tensor sum = narrow ? r.empty(dx.shape(), DType::kF32, dx.live()) : dx;
  for_pieces(r, weight, dy.dtype(), [&](const Tensor& piece, int64_t at) {
    product(dy.columns(at, piece.dim(1)), piece, sum, at == 0 && !adds ? &kOverwrite : nullptr, at);
  });
  if (narrow) r.launch(kCast, {sum, dx}, {0, 1.5 * static_cast<double>(sum.bytes())});
}

// Calls form(dx, whether it adds) for x's gradient.
template <class Form>
void give_sum(Backward& b, const Tensor& x, Form&& form) {
  const Tensor dx = b.buffer(x);
  form(dx, false);
  b.give(x, dx);
}

bool fits(const PackedWeight& weight, int64_t groups) {
  bool good = weight.groups == groups;
  for (const PackedSegment& s : weight.segments)
    good = good && s.data.defined() && s.data.shape() == weight.shape_of(s);
  return good;
}

void check_shapes(const Tensor& x, const PackedWeight& weight, const Tensor& bias) {
  const bool good = x.shape().rank() == 2 && x.dim(1) == weight.in && fits(weight, 1) &&
                    (!bias.defined() || (bias.shape() == Shape{weight.out()} && bias.dtype() == x.dtype()));
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[unpacked_linear] x is {} {}, the packed weight [{}, {}]",
         name(x.dtype()), x.shape().str(), weight.out(), weight.in);
}

}  // namespace

void launch_unpacked(Recorder& r, const Tensor& x, const PackedWeight& weight, const Tensor& bias,
                     const Tensor& y, const PieceProduct& product) {
  for_pieces(r, weight, x.dtype(), [&](const Tensor& piece, int64_t at) {
    MatmulArgs args{x, piece, y.columns(at, piece.dim(1)), {}, false, false, nullptr, {}};
    if (bias.defined()) args.bias = bias.rows(at, piece.dim(1));
    product ? product(r, args, at) : launch_matmul(r, args);
  });
}

void launch_unpacked_gradient(Recorder& r, const Tensor& dy, const PackedWeight& weight, const Tensor& dx,
                              bool adds, const PieceProduct& product) {
  add_up(
      r, dy, weight, dx, adds,
      [&](const Tensor& part, const Tensor& piece, const Tensor& sum, const int64_t* accumulate, int64_t at) {
        const MatmulArgs args{part, piece, {}, sum, false, true, accumulate, {}};
        product ? product(r, args, at) : launch_matmul(r, args);
      });
}

Tensor unpacked_linear(Context& c, const Tensor& x, const PackedWeight& weight, const Tensor& bias,
                       DType out) {
  check_shapes(x, weight, bias);
  const Tensor y = c.recorder.empty({x.dim(0), weight.out()}, out, x.live());
  launch_unpacked(c.recorder, x, weight, bias, y);
  if (!c.tape) return y;
  c.tape->record({x}, {y}, [=](Backward& b) {
    Context plain{b.recorder};
    const Tensor dy = out == x.dtype() ? b.grad(0) : cast(plain, b.grad(0), x.dtype());
    give_sum(b, x, [&](const Tensor& dx, bool adds) {
      launch_unpacked_gradient(b.recorder, dy, weight, dx, adds);
    });
  });
  return y;
}

Tensor unpacked_grouped(Context& c, const Tensor& x, const Tensor& counts, const PackedWeight& weight) {
  if (x.shape().rank() != 3 || x.dim(2) != weight.in || counts.dtype() != DType::kI32 ||
      !fits(weight, counts.shape().numel()))
    fail(ErrorKind::kInvalidArgument,
         "[unpacked_grouped] x is {} {}, the packed weight {} of [{}, {}], counts {}", name(x.dtype()),
         x.shape().str(), weight.groups, weight.out(), weight.in, counts.shape().str());
  const Tensor y = c.recorder.empty({x.dim(0), x.dim(1), weight.out()}, x.dtype(), x.live());
  for_pieces(c.recorder, weight, x.dtype(), [&](const Tensor& piece, int64_t at) {
    launch_grouped(c.recorder, {x, piece, counts, y.columns(at, piece.dim(1)), {}, false, nullptr});
  });
  if (!c.tape) return y;
  c.tape->record({x}, {y}, [=](Backward& b) {
    Recorder& r = b.recorder;
    give_sum(b, x, [&](const Tensor& dx, bool adds) {
      add_up(r, b.grad(0), weight, dx, adds,
             [&](const Tensor& part, const Tensor& piece, const Tensor& sum, const int64_t* accumulate,
                 int64_t) { launch_grouped(r, {part, piece, counts, {}, {}, true, accumulate, sum}); });
    });
  });
  return y;
}

}  // namespace flagscale::op
