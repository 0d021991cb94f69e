// The meaning, to the bit for rounding: a processor has no such products, so sums are in double.
#include "kernel/simd.h"
#include "op/fp8_product/fp8_product.h"
#include "op/fp8_product/largest.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

// A rectangle of x that shares a scale.
struct Block {
  int64_t row, rows, column, columns;
};

const BF16* at(const TensorView& x, int64_t row, int64_t column) {
  return x.ptr<const BF16>() + row * x.row_stride() + column;
}

// By their bits, so that what is no number is the largest.
float largest_magnitude(const TensorView& x, const Block& b) {
  uint16_t most = 0;
  for (int64_t i = b.row; i < b.row + b.rows; ++i)
    for (int64_t j = b.column; j < b.column + b.columns; ++j) {
      const auto bits = static_cast<uint16_t>(at(x, i, j)->bits & 0x7fff);
      if (bits > most) most = bits;
    }
  return to_float(BF16{most});
}

// Rounds a block into numbers [rows, columns], or transposed; returns its scale.
float round_block(const Fp8RoundArgs& args, const Block& b, float magnitude, const TensorView& to,
                  bool transposed) {
  const float factor = fp8_factor(args.format, args.scales, magnitude);
  for (int64_t i = b.row; i < b.row + b.rows; ++i)
    for (int64_t j = b.column; j < b.column + b.columns; ++j)
      to.ptr<uint8_t>()[transposed ? j * to.cols() + i : i * to.cols() + j] =
          to_fp8(args.format, to_float(*at(args.x, i, j)) * factor);
  return 1 / factor;
}

float largest_told(const TensorView& largest) {
  int32_t most = 0;
  for (int64_t i = 0; i < kLargestParts; ++i)
    if (const int32_t part = largest.ptr<const int32_t>()[i]; part > most) most = part;
  return to_float(BF16{static_cast<uint16_t>(most)});
}

void round_tensor(const Team& team, const Fp8RoundArgs& args) {
  const int64_t m = args.x.rows(), n = args.x.cols();
  const float magnitude =
      args.largest.defined() ? largest_told(args.largest) : largest_magnitude(args.x, {0, m, 0, n});
  team.for_each(m, [&](int64_t i) {
    if (args.rows.defined()) round_block(args, {i, 1, 0, n}, magnitude, args.rows, false);
    if (args.columns.defined()) round_block(args, {i, 1, 0, n}, magnitude, args.columns, true);
  });
  args.row_scales.ptr<float>()[0] = 1 / fp8_factor(args.format, args.scales, magnitude);
}

// One side: blocks of 1 x 128 or 128 x 128 numbers along the sum, which is columns, or transposed rows.
void round_side(const Team& team, const Fp8RoundArgs& args, const TensorView& to, const TensorView& scales,
                bool transposed) {
  const int64_t outer = args.scales == Fp8Scales::kSquare128 ? 128 : 1;
  const int64_t lines = to.dims[0] / outer, blocks = to.dims[1] / 128;
  team.for_each(lines, [&](int64_t line) {
    for (int64_t k = 0; k < blocks; ++k) {
      const Block block =
          transposed ? Block{k * 128, 128, line * outer, outer} : Block{line * outer, outer, k * 128, 128};
      scales.ptr<float>()[outer == 1 ? k * scales.cols() + line : line * scales.cols() + k] =
          round_block(args, block, largest_magnitude(args.x, block), to, transposed);
    }
  });
}

void round(KernelContext& context, const Fp8RoundArgs& args) {
  if (args.keep && *args.keep != 0) return;
  if (args.scales == Fp8Scales::kTensor) return round_tensor(context.team, args);
  if (args.rows.defined()) round_side(context.team, args, args.rows, args.row_scales, false);
  if (args.columns.defined()) round_side(context.team, args, args.columns, args.column_scales, true);
}

// The scale of a factor's row in its block along the sum.
double scale_of(const TensorView& scales, Fp8Scales shared, int64_t row, int64_t block) {
  const auto* s = scales.ptr<const float>();
  const int64_t i = shared == Fp8Scales::kTensor   ? 0
                    : shared == Fp8Scales::kRow128 ? block * scales.cols() + row
                                                   : row / 128 * scales.cols() + block;
  return static_cast<double>(s[i]);
}

double element(const Fp8ProductArgs& args, int64_t i, int64_t j) {
  const int64_t k = args.a.cols();
  const uint8_t *a = args.a.ptr<const uint8_t>() + i * k, *b = args.b.ptr<const uint8_t>() + j * k;
  const float *a_values = fp8_values(args.a_format), *b_values = fp8_values(args.b_format);
  double total = 0;
  for (int64_t begin = 0; begin < k; begin += 128) {
    const int64_t end = k - begin < 128 ? k : begin + 128;
    double sums[4] = {};  // sizes are multiples of 16
    for (int64_t at = begin; at < end; at += 4)
      for (int64_t lane = 0; lane < 4; ++lane)
        sums[lane] +=
            static_cast<double>(a_values[a[at + lane]]) * static_cast<double>(b_values[b[at + lane]]);
    total += (sums[0] + sums[1] + sums[2] + sums[3]) *
             scale_of(args.a_scales, args.a_shared, i, begin / 128) *
             scale_of(args.b_scales, args.b_shared, j, begin / 128);
  }
  return total;
}

void put(float& to, float x) { to = x; }
void put(BF16& to, float x) { to = to_bf16(x); }
double widened(float x) { return static_cast<double>(x); }
double widened(BF16 x) { return static_cast<double>(to_float(x)); }

template <class S>
void add_to(const TensorView& sums, int64_t i, int64_t j, double total, bool add) {
  S& sum = sums.ptr<S>()[i * sums.row_stride() + j];
  put(sum, static_cast<float>(total + (add ? widened(sum) : 0)));
}

void multiply(KernelContext& context, const Fp8ProductArgs& args) {
  const int64_t m = args.a.dims[0], n = args.b.dims[0];
  const bool add = args.sum.defined() && (!args.accumulate || *args.accumulate != 0);
  context.team.for_each(m, [&](int64_t i) {
    for (int64_t j = 0; j < n; ++j) {
      const double total = element(args, i, j);
      if (args.sum.defined()) {
        const bool rounded = args.sum.dtype == DType::kBF16;
        rounded ? add_to<BF16>(args.sum, i, j, total, add) : add_to<float>(args.sum, i, j, total, add);
      } else {
        const float bias = args.bias.defined() ? to_float(args.bias.ptr<const BF16>()[j]) : 0.f;
        args.out.ptr<BF16>()[i * args.out.row_stride() + j] =
            to_bf16(static_cast<float>(total + static_cast<double>(bias)));
      }
    }
  });
}

void transpose(KernelContext& context, const Fp8TransposeArgs& args) {
  const int64_t m = args.x.dims[0], n = args.x.dims[1];
  context.team.for_each(n, [&](int64_t j) {
    for (int64_t i = 0; i < m; ++i) args.y.ptr<uint8_t>()[j * m + i] = args.x.ptr<const uint8_t>()[i * n + j];
  });
}

const CpuKernel<Fp8TransposeArgs> kTransposeKernel{kFp8Transpose, kIsa, &transpose};
const CpuKernel<Fp8RoundArgs> kRoundKernel{kFp8Round, kIsa, &round};
const CpuKernel<Fp8ProductArgs> kProductKernel{kFp8Product, kIsa, &multiply};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
