#include "op/fp8_product/fp8_product.h"

#include <fmt/core.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "device/cuda/cuda.h"
#include "op/elementwise/elementwise.h"
#include "op/matmul/matmul.h"
#include "op/op_testing.h"
#include "op/rms_norm/rms_norm.h"
#include "op/swiglu/swiglu.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

Tensor bytes_tensor(const Shape& shape, DType dtype) {
  const Tensor t = make_tensor(testing::allocator(), shape, dtype);
  std::memset(t.raw(), 0x55, t.bytes());
  return t;
}

// x rounded both ways.
struct Both {
  Tensor rows, columns, row_scales, column_scales;
};

Shape scales_shape(Fp8Scales scales, int64_t rows, int64_t k) {
  if (scales == Fp8Scales::kTensor) return {1};
  if (scales == Fp8Scales::kRow128) return {k / 128, rows};
  return {rows / 128, (k / 128 + 3) / 4 * 4};
}

Both round(Isa isa, const Tensor& x, Fp8 format, Fp8Scales scales, bool rows = true, bool columns = true,
           const int64_t* keep = nullptr) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  const int64_t m = x.dim(0), n = x.dim(1);
  Both to;
  Fp8RoundArgs args{x, {}, {}, {}, {}, format, scales, keep};
  const bool one = scales == Fp8Scales::kTensor;
  if (rows) args.rows = to.rows = bytes_tensor({m, n}, DType::kU8);
  if (columns) args.columns = to.columns = bytes_tensor({n, m}, DType::kU8);
  if (rows || one) args.row_scales = to.row_scales = bytes_tensor(scales_shape(scales, m, n), DType::kF32);
  if (columns && !one)
    args.column_scales = to.column_scales = bytes_tensor(scales_shape(scales, n, m), DType::kF32);
  recorder.launch(kFp8Round, args);
  return to;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

void expect_same(const Both& a, const Both& b) {
  EXPECT_TRUE(same_bytes(a.rows, b.rows));
  EXPECT_TRUE(same_bytes(a.columns, b.columns));
  EXPECT_TRUE(same_bytes(a.row_scales, b.row_scales));
  EXPECT_TRUE(same_bytes(a.column_scales, b.column_scales));
}

double scale_at(const Tensor& scales, Fp8Scales shared, int64_t row, int64_t k) {
  const int64_t i = shared == Fp8Scales::kTensor   ? 0
                    : shared == Fp8Scales::kRow128 ? k / 128 * scales.dim(1) + row
                                                   : row / 128 * scales.dim(1) + k / 128;
  return static_cast<double>(scales.data<float>()[i]);
}

// What the numbers stand for, [rows, k] in double.
Tensor meaning(const Tensor& q, const Tensor& scales, Fp8 format, Fp8Scales shared) {
  const Tensor t = make_tensor(testing::allocator(), q.shape(), DType::kF64);
  for (int64_t i = 0; i < q.dim(0); ++i)
    for (int64_t k = 0; k < q.dim(1); ++k) {
      const int64_t at = i * q.dim(1) + k;
      t.data<double>()[at] =
          scale_at(scales, shared, i, k) * static_cast<double>(from_fp8(format, q.data<uint8_t>()[at]));
    }
  return t;
}

constexpr Fp8 kFormats[] = {Fp8::kE4M3, Fp8::kE5M2};
constexpr Fp8Scales kAllScales[] = {Fp8Scales::kTensor, Fp8Scales::kRow128, Fp8Scales::kSquare128};

TEST(Fp8RoundScalar, IsWithinAStepOfEachNumberBothWays) {
  for (const Fp8 format : kFormats)
    for (const Fp8Scales scales : kAllScales) {
      const Tensor x = random_tensor({256, 384}, 1, DType::kBF16);
      const Both to = round(Isa::kScalar, x, format, scales);
      const Tensor rows = meaning(to.rows, to.row_scales, format, scales),
                   columns =
                       meaning(to.columns, scales == Fp8Scales::kTensor ? to.row_scales : to.column_scales,
                               format, scales);
      const double step = format == Fp8::kE4M3 ? 1.0 / 16 : 1.0 / 8;  // half of it: of the number, or of the
      for (int64_t i = 0; i < 256; ++i)                               // smallest normal one
        for (int64_t j = 0; j < 384; ++j) {
          const double want = testing::get(x, i * 384 + j), allowed = step * std::max(std::fabs(want), 2e-2);
          ASSERT_NEAR(testing::get(rows, i * 384 + j), want, allowed);
          ASSERT_NEAR(testing::get(columns, j * 256 + i), want, allowed);
        }
    }
}

TEST(Fp8RoundScalar, BlocksHaveScalesOfTheirOwn) {
  const Tensor x = random_tensor({128, 256}, 1, DType::kBF16);
  for (int64_t j = 0; j < 128; ++j) testing::set(x, 5 * 256 + j, 1000);
  const Both to = round(Isa::kScalar, x, Fp8::kE4M3, Fp8Scales::kRow128);
  EXPECT_EQ(scale_at(to.row_scales, Fp8Scales::kRow128, 5, 0), 4);  // 448 / 1000: factor 1 / 4
  EXPECT_LT(scale_at(to.row_scales, Fp8Scales::kRow128, 5, 128), 0.1);
  EXPECT_LT(scale_at(to.row_scales, Fp8Scales::kRow128, 4, 0), 0.1);
  EXPECT_EQ(scale_at(to.column_scales, Fp8Scales::kRow128, 17, 0), 4);
  EXPECT_LT(scale_at(to.column_scales, Fp8Scales::kRow128, 128, 0), 0.1);
}

FLAGSCALE_TEST_SETS(Fp8Round, Isa::kScalar, Isa::kAvx2, Isa::kCuda);

TEST_P(Fp8Round, HasTheScalarKernelsBits) {
  for (const Fp8 format : kFormats)
    for (const Fp8Scales scales : kAllScales) {
      const bool any = scales == Fp8Scales::kTensor;  // sizes that are multiples of 16 alone
      for (const auto& [m, n] :
           {std::pair<int64_t, int64_t>{128, 128}, {256, 640}, {any ? 48 : 384, any ? 592 : 256}}) {
        SCOPED_TRACE(fmt::format("{} {} {} {}", name(format), static_cast<int>(scales), m, n));
        const Tensor x = random_tensor({m, n}, 1, DType::kBF16);
        for (int64_t i = 0; i < m * n; i += 7)
          testing::set(x, i, std::ldexp(testing::get(x, i), static_cast<int>(i % 40) - 25));
        if (m % 128 == 0)
          for (int64_t i = 0; i < 128; ++i)  // a block of nothing
            for (int64_t j = 0; j < 128; ++j) testing::set(x, i * n + j, 0);
        for (const auto& [rows, columns] : {std::pair{true, true}, {true, false}, {false, true}})
          expect_same(round(GetParam(), x, format, scales, rows, columns),
                      round(Isa::kScalar, x, format, scales, rows, columns));
        testing::set(x, n + 3, std::numeric_limits<double>::quiet_NaN());
        expect_same(round(GetParam(), x, format, scales), round(Isa::kScalar, x, format, scales));
        const Tensor wide = random_tensor({m, n + 256}, 2, DType::kBF16);
        expect_same(round(GetParam(), wide.columns(128, n), format, scales),
                    round(Isa::kScalar, wide.columns(128, n), format, scales));
      }
    }
}

TEST_P(Fp8Round, LeavesWhatIsToBeKept) {
  const Tensor x = random_tensor({128, 128}, 1, DType::kBF16);
  const int64_t keep = 1, anew = 0;
  const Both untouched{bytes_tensor({128, 128}, DType::kU8),
                       bytes_tensor({128, 128}, DType::kU8),
                       bytes_tensor({1}, DType::kF32),
                       {}};
  expect_same(round(GetParam(), x, Fp8::kE4M3, Fp8Scales::kTensor, true, true, &keep), untouched);
  expect_same(round(GetParam(), x, Fp8::kE4M3, Fp8Scales::kTensor, true, true, &anew),
              round(Isa::kScalar, x, Fp8::kE4M3, Fp8Scales::kTensor));
}

TEST_P(Fp8Round, TransposedBytesAreTheScalarKernels) {
  const Team team(2);
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{16, 16}, {128, 128}, {48, 592}, {400, 272}}) {
    const Tensor x = bytes_tensor({m, n}, DType::kU8), y = bytes_tensor({n, m}, DType::kU8);
    for (int64_t i = 0; i < m * n; ++i) x.data<uint8_t>()[i] = static_cast<uint8_t>(i * 37 + i / 251);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    recorder.launch(kFp8Transpose, {x, y});
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        ASSERT_EQ(y.data<uint8_t>()[j * m + i], x.data<uint8_t>()[i * n + j]) << m << " " << i << " " << j;
  }
}

FLAGSCALE_TEST_SETS(Fp8Product, Isa::kScalar, Isa::kCuda);

// Of random numbers; kRow128 by kRow128 is the gradient of a weight, kRow128 by kSquare128 the others.
TEST_P(Fp8Product, IsTheProductOfWhatTheNumbersStandFor) {
  if (GetParam() == Isa::kCuda && !cuda::multiplies_fp8())
    GTEST_SKIP() << "this GPU multiplies no fp8 numbers";
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam()),
      exact(testing::allocator(), team, Isa::kScalar);
  for (const auto& [a_shared, b_shared] : {std::pair{Fp8Scales::kTensor, Fp8Scales::kTensor},
                                           {Fp8Scales::kRow128, Fp8Scales::kRow128},
                                           {Fp8Scales::kRow128, Fp8Scales::kSquare128}})
    for (const Fp8 a_format : kFormats) {
      const bool any = a_shared == Fp8Scales::kTensor;
      const int64_t m = any ? 48 : 256, n = any ? 208 : 384, k = any ? 336 : 640;
      SCOPED_TRACE(fmt::format("{} {}", static_cast<int>(b_shared), name(a_format)));
      const Both a = round(Isa::kScalar, random_tensor({m, k}, 1, DType::kBF16), a_format, a_shared, true,
                           false),
                 b = round(Isa::kScalar, random_tensor({n, k}, 2, DType::kBF16), Fp8::kE4M3, b_shared, true,
                           false);
      const Tensor bias = random_tensor({n}, 3, DType::kBF16), out = bytes_tensor({m, n}, DType::kBF16),
                   sum = random_tensor({m, n}, 4, DType::kF32);
      Context wide{exact};
      const Tensor want = linear(wide, meaning(a.rows, a.row_scales, a_format, a_shared),
                                 meaning(b.rows, b.row_scales, Fp8::kE4M3, b_shared),
                                 testing::converted(bias, DType::kF64)),
                   product = linear(wide, meaning(a.rows, a.row_scales, a_format, a_shared),
                                    meaning(b.rows, b.row_scales, Fp8::kE4M3, b_shared), {});
      Fp8ProductArgs args{a.rows, a.row_scales, b.rows,     b.row_scales, out,     {},
                          bias,   a_format,     Fp8::kE4M3, a_shared,     b_shared};
      recorder.launch(kFp8Product, args);
      EXPECT_LT(testing::relative_error(out, want), 1e-2);  // bf16
      args.out = {}, args.bias = {};
      const Tensor before = testing::converted(sum, DType::kF64);
      args.sum = sum;
      const int64_t add = 1, overwrite = 0;
      for (const int64_t* accumulate : {&add, &overwrite}) {
        args.accumulate = accumulate;
        recorder.launch(kFp8Product, args);
        const Tensor total = make_tensor(testing::allocator(), {m, n}, DType::kF64);
        for (int64_t i = 0; i < m * n; ++i)
          testing::set(total, i, testing::get(product, i) + (*accumulate ? testing::get(before, i) : 0));
        EXPECT_LT(testing::relative_error(sum, total), 1e-3);
      }
    }
}

struct LinearRun {
  testing::Result result;
  Tensor weight_gradient, bias_gradient;
};

// y, dx, dW and, where there is a bias, dbias of one set.
LinearRun run_linear(Isa isa, Fp8Training training, const Tensor& x, const Tensor& weight, const Tensor& bias,
                     const Tensor& dy) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  Tape tape = make_tape();
  tape.require(x);
  const int64_t overwrite = 0;
  LinearRun run;
  run.weight_gradient = make_tensor(testing::allocator(), weight.shape(), DType::kF32);
  tape.watch(weight, run.weight_gradient, &overwrite);
  if (bias.defined()) {
    run.bias_gradient = make_tensor(testing::allocator(), bias.shape(), DType::kF32);
    tape.watch(bias, run.bias_gradient, &overwrite);
  }
  Context context{recorder, &tape};
  const Fp8Weight rounded = make_fp8_weight(
      "w", weight.shape(), training,
      [](const Shape& shape, DType dtype) { return make_tensor(testing::allocator(), shape, dtype); });
  round_fp8_weight(recorder, weight, rounded);
  run.result.output = fp8_training_linear(context, x, weight, rounded, bias);
  tape.seed(run.result.output, dy);
  tape.backward(recorder);
  run.result.grads = {tape.grad(x)};
  return run;
}

LinearRun run_linear(Isa isa, Fp8Training training, const Tensor& x, const Tensor& weight,
                     const Tensor& bias) {
  return run_linear(isa, training, x, weight, bias,
                    random_tensor({x.dim(0), weight.dim(0)}, 99, DType::kBF16));
}

// Against double without any rounding: of the largest of so many results the worst is off by 4 to 7 %.
TEST_P(Fp8Product, ALinearAndItsGradientsAreNearTheExactOnes) {
  if (GetParam() == Isa::kCuda && !cuda::multiplies_fp8())
    GTEST_SKIP() << "this GPU multiplies no fp8 numbers";
  const Tensor x = random_tensor({256, 384}, 1, DType::kBF16),
               weight = random_tensor({128, 384}, 2, DType::kBF16),
               bias = random_tensor({128}, 3, DType::kBF16);
  const auto wide = [](const Tensor& t) { return testing::converted(t, DType::kF64); };
  const auto exact =
      testing::run([](Context& c, const std::vector<Tensor>& in) { return linear(c, in[0], in[1], in[2]); },
                   {wide(x), wide(weight), wide(bias)}, Isa::kScalar);
  for (const Fp8Recipe recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kBlockwise})
    for (const Fp8 gradients : kFormats) {
      const Fp8Training training{recipe, gradients};
      const LinearRun got = run_linear(GetParam(), training, x, weight, bias);
      const double of_gradients = gradients == Fp8::kE4M3 ? 0.06 : 0.08;
      EXPECT_LT(testing::relative_error(got.result.output, exact.output), 0.06);
      EXPECT_LT(testing::relative_error(got.result.grads[0], exact.grads[0]), of_gradients);
      EXPECT_LT(testing::relative_error(got.weight_gradient, exact.grads[1]), of_gradients);
      EXPECT_LT(testing::relative_error(got.bias_gradient, exact.grads[2]), 5e-3);
      const LinearRun scalar = run_linear(Isa::kScalar, training, x, weight, bias);
      EXPECT_LT(testing::relative_error(got.result.output, scalar.result.output), 1e-2);  // bf16
      EXPECT_LT(testing::relative_error(got.result.grads[0], scalar.result.grads[0]), 1e-2);
      EXPECT_LT(testing::relative_error(got.weight_gradient, scalar.weight_gradient), 1e-3);
    }
}

// A frozen weight that is held once gives the bits of one held both ways, and needs none in bf16.
TEST_P(Fp8Product, AWeightHeldOnceIsTransposedForItsGradient) {
  if (GetParam() == Isa::kCuda && !cuda::multiplies_fp8())
    GTEST_SKIP() << "this GPU multiplies no fp8 numbers";
  const Team team(2);
  const auto make = [](const Shape& shape, DType dtype) {
    return make_tensor(testing::allocator(), shape, dtype);
  };
  const Tensor x = random_tensor({256, 384}, 1, DType::kBF16),
               weight = random_tensor({128, 384}, 2, DType::kBF16);
  for (const Fp8Recipe recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kBlockwise})
    for (const Fp8 gradients : kFormats) {
      EagerRecorder recorder(testing::allocator(), team, GetParam());
      const Fp8Weight both = make_fp8_weight("w", weight.shape(), {recipe, gradients}, make);
      round_fp8_weight(recorder, weight, both);
      Fp8Weight once = make_fp8_weight("w", weight.shape(), {recipe, gradients}, make, true);
      ASSERT_FALSE(once.backward.defined());
      once.forward = both.forward, once.backward.scales = both.backward.scales;
      const auto linear = [](const Fp8Weight& w, const Tensor& dense) -> testing::Function {
        return [=](Context& c, const std::vector<Tensor>& in) {
          return fp8_training_linear(c, in[0], dense, w, {});
        };
      };
      const auto want = testing::run(linear(both, weight), {x}, GetParam()),
                 got = testing::run(linear(once, {}), {x}, GetParam());
      EXPECT_TRUE(same_bytes(got.output, want.output));
      EXPECT_TRUE(same_bytes(got.grads[0], want.grads[0]));
    }
}

// Norms and SwiGLU, and their gradients, tell the largest magnitude of what they make: all bits are those of
// looking for it.
TEST_P(Fp8Product, LargestMagnitudesFoundWhereNumbersAreMadeChangeNoBit) {
  if (GetParam() == Isa::kCuda && !cuda::multiplies_fp8())
    GTEST_SKIP() << "this GPU multiplies no fp8 numbers";
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  const auto make = [](const Shape& shape, DType dtype) {
    return make_tensor(testing::allocator(), shape, dtype);
  };
  const auto rounded = [&](const Shape& shape, unsigned seed) {
    const Tensor weight = random_tensor(shape, seed, DType::kBF16);
    const Fp8Weight w = make_fp8_weight("w", shape, {Fp8Recipe::kTensorwise, Fp8::kE5M2}, make);
    round_fp8_weight(recorder, weight, w);
    return w;
  };
  for (const int64_t n : {64, 528, 2064}) {
    const Fp8Weight first = rounded({n, n}, 1), both = rounded({96, n}, 2), last = rounded({n, 48}, 3);
    const Tensor norm = random_tensor({n}, 4, DType::kBF16);
    const auto layer = [&](bool told) -> testing::Function {
      return [=](Context& c, const std::vector<Tensor>& in) {
        const auto linear = [&](const Tensor& x, const Fp8Weight& w, const Tensor& largest) {
          const Tensor y = fp8_training_linear(c, x, {}, w, {}, told ? largest : Tensor());
          if (told) return y;
          const Tensor zero = make(y.shape(), y.dtype());
          std::memset(zero.raw(), 0, zero.bytes());
          return add(c, y, zero);
        };
        Tensor of_norm, of_gated;
        const Tensor delta = linear(in[0], first, {});
        const AddRmsNorm normed = add_rms_norm(c, in[0], delta, norm, 1e-5f, told ? &of_norm : nullptr);
        const Tensor gate_up = linear(normed.y, both, of_norm);
        const Tensor gated =
            swiglu(c, gate_up.columns(0, 48), gate_up.columns(48, 48), told ? &of_gated : nullptr);
        EXPECT_EQ(of_norm.defined() && of_gated.defined(), told);
        return add(c, normed.sum, linear(gated, last, of_gated));
      };
    };
    const std::vector<Tensor> x{random_tensor({80, n}, 5, DType::kBF16)};
    const auto got = testing::run(layer(true), x, GetParam()),
               want = testing::run(layer(false), x, GetParam());
    EXPECT_EQ(testing::relative_error(got.output, want.output), 0) << n;
    EXPECT_EQ(testing::relative_error(got.grads[0], want.grads[0]), 0) << n;
  }
}

// Whole numbers scrambled, in [-0.5, 0.5), as the reference makes them.
double scrambled(int64_t i, uint32_t seed) {
  uint32_t h = (static_cast<uint32_t>(i) + seed * 7919u) * 2654435761u;
  h = (h ^ h >> 15) * 2246822519u;
  return static_cast<double>((h ^ h >> 13) >> 8) / (1 << 24) - 0.5;
}

Tensor scrambled_tensor(const Shape& shape, uint32_t seed,
                        const std::function<double(int64_t row, int64_t column)>& times) {
  const Tensor t = make_tensor(testing::allocator(), shape, DType::kBF16);
  for (int64_t i = 0; i < shape.numel(); ++i)
    testing::set(t, i, scrambled(i, seed) * times(i / shape[1], i % shape[1]));
  return t;
}

// Transformer Engine's recipes in PyTorch (tests/golden/op/fp8_linear.txt, every 331st number): each factor
// of a product, the transposed ones too, rounded from bf16 in blocks along that product's sum; products in
// double. A few columns of x are 64 times as large as the rest, rows of dy down to 2^-18.
TEST_P(Fp8Product, ALinearAndItsGradientsAreTheReferences) {
  if (GetParam() == Isa::kCuda && !cuda::multiplies_fp8())
    GTEST_SKIP() << "this GPU multiplies no fp8 numbers";
  const auto columns = [](int64_t, int64_t j) { return j % 37 == 0 ? 64. : 1.; };
  const auto rows = [](int64_t i, int64_t) { return std::ldexp(1., -static_cast<int>(i * 5 % 19)); };
  const Tensor x = scrambled_tensor({384, 256}, 1, columns),
               weight = scrambled_tensor({128, 256}, 2, [](int64_t, int64_t) { return 1.; }),
               dy = scrambled_tensor({384, 128}, 3, rows);
  std::ifstream golden(FLAGSCALE_SOURCE_DIR "/tests/golden/op/fp8_linear.txt");
  int products = 0;
  for (std::string line; std::getline(golden, line); ++products) {
    std::istringstream words(line);
    std::string recipe, gradients, product;
    words >> recipe >> gradients >> product;
    SCOPED_TRACE(recipe + " " + gradients + " " + product);
    const Fp8Training training{recipe == "tensorwise" ? Fp8Recipe::kTensorwise : Fp8Recipe::kBlockwise,
                               gradients == "e4m3" ? Fp8::kE4M3 : Fp8::kE5M2};
    const LinearRun run = run_linear(GetParam(), training, x, weight, {}, dy);
    const Tensor& got = product == "y"    ? run.result.output
                        : product == "dx" ? run.result.grads[0]
                                          : run.weight_gradient;
    double difference = 0, size = 0, want = 0;
    for (int64_t at = 0; words >> want; at += 331)
      difference += std::pow(testing::get(got, at) - want, 2), size += want * want;
    EXPECT_GT(size, 0);
    // A GPU's tensor cores add products of fp8 in some 14 bits.
    const double exact = GetParam() == Isa::kCuda ? 5e-4 : 1e-4;
    EXPECT_LT(std::sqrt(difference / size), got.dtype() == DType::kF32 ? exact : 3e-3);
  }
  EXPECT_EQ(products, 12);
}

// In the square mean.
double distance(const Tensor& a, const Tensor& b) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < b.shape().numel(); ++i) {
    const double x = testing::get(a, i), y = testing::get(b, i);
    difference += (x - y) * (x - y), size += y * y;
  }
  return std::sqrt(difference / size);
}

FLAGSCALE_TEST_SETS(Fp8ProductGpu, Isa::kCuda);

// Sizes of a training, beside the products in bf16, which are exact beside these: each factor is off by 2.5 %
// in e4m3 and 5 % in e5m2.
TEST_P(Fp8ProductGpu, LargeProductsAreAsNearAsSmallOnes) {
  if (!cuda::multiplies_fp8()) GTEST_SKIP() << "this GPU multiplies no fp8 numbers";
  const Tensor x = random_tensor({8192, 1536}, 1, DType::kBF16),
               weight = random_tensor({512, 1536}, 2, DType::kBF16),
               bias = random_tensor({512}, 3, DType::kBF16);
  const auto exact =
      testing::run([](Context& c, const std::vector<Tensor>& in) { return linear(c, in[0], in[1], in[2]); },
                   {x, weight, bias}, Isa::kCuda);
  for (const Fp8Recipe recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kBlockwise})
    for (const Fp8 gradients : kFormats) {
      const LinearRun got = run_linear(Isa::kCuda, {recipe, gradients}, x, weight, bias);
      const double y = distance(got.result.output, exact.output),
                   dx = distance(got.result.grads[0], exact.grads[0]),
                   dw = distance(got.weight_gradient, exact.grads[1]);
      RecordProperty(fmt::format("{}_{}", name(recipe), flagscale::name(gradients)),
                     fmt::format("{:.4f} {:.4f} {:.4f}", y, dx, dw));
      const double expected = gradients == Fp8::kE4M3 ? 0.035 : 0.055;
      EXPECT_NEAR(y, 0.035, 0.004);
      EXPECT_NEAR(dx, expected, 0.006);
      EXPECT_NEAR(dw, expected, 0.006);
    }
}

std::string refusal(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Fp8ProductScalar, SizesThatAreNoMultiplesAreNamed) {
  const auto make = [](const Shape& shape, DType dtype) {
    return make_tensor(testing::allocator(), shape, dtype);
  };
  const auto of_weight = [&](Fp8Recipe recipe, const Shape& shape) {
    return refusal([&] { make_fp8_weight("model.w", shape, {recipe}, make); });
  };
  EXPECT_EQ(of_weight(Fp8Recipe::kTensorwise, {48, 16}), "none");
  EXPECT_EQ(
      of_weight(Fp8Recipe::kTensorwise, {40, 16}),
      "fp8_recipe: tensorwise needs sizes of products that are multiples of 16, model.w is [40, 16]: train "
      "without fp8");
  EXPECT_EQ(
      of_weight(Fp8Recipe::kBlockwise, {128, 192}),
      "fp8_recipe: blockwise needs sizes of products that are multiples of 128, model.w is [128, 192]: train "
      "without fp8, or set fp8_recipe: tensorwise");
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context context{recorder};
  const Tensor weight = random_tensor({128, 128}, 1, DType::kBF16);
  for (const auto& [recipe, rows] : {std::pair{Fp8Recipe::kTensorwise, 24}, {Fp8Recipe::kBlockwise, 64}}) {
    const Fp8Weight rounded = make_fp8_weight("model.w", {128, 128}, {recipe}, make);
    EXPECT_NE(refusal([&] {
                fp8_training_linear(context, random_tensor({rows, 128}, 2, DType::kBF16), weight, rounded,
                                    {});
              }).find(fmt::format("this one has {}: change micro_batch_size or seq_length", rows)),
              std::string::npos);
  }
  const Fp8Weight rounded = make_fp8_weight("model.w", {128, 128}, {}, make);
  EXPECT_THROW(fp8_training_linear(context, random_tensor({128, 128}, 2, DType::kF32), weight, rounded, {}),
               Error);
}

}  // namespace
}  // namespace flagscale::op
