#include "op/narrow_linear/narrow_linear.h"

#include <fmt/core.h>

#include <cmath>

#include "base/error.h"
#include "op/matmul/matmul.h"
#include "op/narrow_linear/narrow_weight_test_support.h"
#include "op/op_testing.h"
#include "op/packed_linear/unpacked_linear.h"

namespace flagscale::op {
namespace {

using testing::narrowed_weight;
using testing::NarrowedWeight;
using testing::random_tensor;

struct Row {
  std::vector<uint8_t> data;
  std::vector<uint16_t> scales;  // of a panel, as bits
  float scale;                   // of its first element
  std::vector<BF16> values;
};

Row narrowed(Narrow format, const std::vector<float>& values) {
  Row row;
  row.data.resize(static_cast<size_t>(narrow_shape(format, 1, std::ssize(values))[1]));
  row.values.resize(values.size());
  row.scales.resize(static_cast<size_t>(scales_of_panel(format, std::ssize(values))));
  narrow_row(format, values, 9, row.data, row.scales.data());
  widen_row(format, row.data, 9, row.scales.data(), row.values);
  row.scale = columns_of_scale(format) == 0 ? to_float(BF16{row.scales[9]}) : to_float(F16{row.scales[3]});
  return row;
}

// What the format holds comes back: with 448 among them, the scale is 1.
TEST(NarrowWeight, EveryNumberOfFp8ComesBack) {
  std::vector<float> values;
  for (int exponent = 0; exponent < 16; ++exponent)
    for (int mantissa = 0; mantissa < 8; ++mantissa) {
      if (exponent == 15 && mantissa == 7) continue;  // is no number
      const float x = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                    : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
      values.push_back(x), values.push_back(-x);
    }
  const Row row = narrowed(Narrow::kFp8, values);
  EXPECT_EQ(row.scale, 1.f);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(to_float(row.values[i]), values[i]) << i;
}

TEST(NarrowWeight, IsWithinHalfAStepOfWhatItStandsFor) {
  const Tensor x = random_tensor({1, 1003}, 3, DType::kF32);
  std::vector<float> values(x.data<float>(), x.data<float>() + 1003);
  values[17] = 1e-6f, values[18] = 0;
  const Row fp8 = narrowed(Narrow::kFp8, values), int8 = narrowed(Narrow::kInt8, values);
  for (size_t i = 0; i < values.size(); ++i) {
    const float x_i = values[i], small = fp8.scale * 0x1p-10f;
    EXPECT_LE(std::fabs(to_float(fp8.values[i]) - x_i), std::max(small, std::fabs(x_i) * 0.0665f)) << x_i;
    EXPECT_LE(std::fabs(to_float(int8.values[i]) - x_i),
              int8.scale * 0.5f * 1.001f + std::fabs(x_i) * 0x1p-8f)
        << x_i;
  }
}

// The numbers and scales of the packed formats, as a processor widens them, rounded once to bf16.
TEST(NarrowWeight, FourBitsAreThePackedFormatsNumbers) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  const std::pair<Narrow, Packing> formats[] = {{Narrow::kInt4, Packing::kInt4},
                                                {Narrow::kInt4By32, Packing::kQ4_0}};
  const int64_t rows = 19, in = 424;
  for (const auto& [format, packing] : formats) {
    const Tensor values = random_tensor({rows, in}, 2, DType::kF32),
                 packed = make_tensor(testing::allocator(), packed_shape(packing, rows, in), DType::kU8),
                 unpacked = recorder.empty({in, rows}, DType::kF32);
    std::fill_n(packed.data<uint8_t>(), packed.bytes(), uint8_t{0});
    for (int64_t i = 0; i < rows; ++i)
      pack_row(packed, packing, i, {values.data<float>() + i * in, static_cast<size_t>(in)});
    recorder.launch(kUnpack, {packed, unpacked, packing, 0});
    const NarrowedWeight narrow = narrowed_weight(format, rows, in);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < in; ++k)
        ASSERT_EQ(to_float(narrow.wide.data<BF16>()[i * in + k]),
                  to_float(to_bf16(unpacked.data<float>()[k * rows + i])))
            << name(format) << " row " << i << " element " << k;
  }
}

TEST(NarrowWeight, ZerosStayAndWhatIsNoNumberIsRefused) {
  for (const Narrow format : testing::kOfPanels) {
    for (const BF16 x : narrowed(format, std::vector<float>(40)).values) EXPECT_EQ(to_float(x), 0.f);
    for (const BF16 x : narrowed(format, {1e-38f, -1e-38f}).values) EXPECT_LT(std::fabs(to_float(x)), 1e-30f);
    EXPECT_THROW(narrowed(format, {1, NAN}), Error);
    EXPECT_THROW(narrowed(format, {1, INFINITY}), Error);
    EXPECT_THROW(narrowed(format, {1, 1e30f}), Error);
  }
}

TEST(NarrowLinear, RowsOfFp8AreRefused) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const Tensor x = random_tensor({1, 64}, 1, DType::kBF16);
  EXPECT_THROW(narrow_linear(c, x, narrowed_weight(Narrow::kFp8Rows, 16, 64).narrow, {}, DType::kF32), Error);
}

FLAGSCALE_EVERY_SET(NarrowLinearSets);

TEST_P(NarrowLinearSets, IsTheProductOfTheWeightThatItStandsFor) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam()),
      exact(testing::allocator(), team, Isa::kScalar);
  Context c{recorder}, wide{exact};
  struct Case {
    int64_t m, n, k;
  };
  for (const Narrow format : testing::kMultiplied)
    for (const Case& s :
         {Case{1, 16, 16}, Case{5, 83, 64}, Case{40, 132, 576}, Case{3, 40, 401}, Case{20, 70, 24}}) {
      SCOPED_TRACE(fmt::format("{} {} {} {}", name(format), s.m, s.n, s.k));
      const NarrowedWeight weight = narrowed_weight(format, s.n, s.k);
      const Tensor x = random_tensor({s.m, s.k}, 1, DType::kBF16),
                   bias = random_tensor({s.n}, 3, DType::kBF16);
      const auto to_double = [](const Tensor& t) { return testing::converted(t, DType::kF64); };
      const Tensor want = linear(wide, to_double(x), to_double(weight.wide), to_double(bias));
      EXPECT_LT(testing::relative_error(narrow_linear(c, x, weight.narrow, bias, DType::kF32), want), 3e-6);
      EXPECT_LT(testing::relative_error(narrow_linear(c, x, weight.narrow, bias, DType::kBF16), want), 5e-3);
    }
}

class NarrowLinearGpu : public testing::EverySet {};
INSTANTIATE_TEST_SUITE_P(Set, NarrowLinearGpu, ::testing::Values(Isa::kCuda));

// However many rows there are, by whichever kernel.
TEST_P(NarrowLinearGpu, HasTheBitsOfASteadyProduct) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  struct Case {
    int64_t n, k;
  };
  for (const Narrow format : testing::kMultiplied)
    for (const Case& s :
         {Case{83, 64}, Case{132, 576}, Case{96, 2120}, Case{8452, 72}, Case{300, 4096}, Case{8500, 1096}}) {
      const NarrowedWeight weight = narrowed_weight(format, s.n, s.k);
      const int64_t most = 520;
      const Tensor x = random_tensor({most, s.k}, 1, DType::kBF16),
                   bias = random_tensor({s.n}, 3, DType::kBF16);
      const Tensor want = linear(c, x, weight.wide, bias, DType::kF32, true);
      for (const int64_t rows : {1, 7, 8, 9, 16, 17, 33, 65, 130, 300, 520}) {
        SCOPED_TRACE(fmt::format("{} {} rows n {} k {}", name(format), rows, s.n, s.k));
        const Tensor got = narrow_linear(c, x.rows(most - rows, rows), weight.narrow, bias, DType::kF32);
        for (int64_t i = 0; i < rows * s.n; ++i)
          ASSERT_EQ(got.data<float>()[i], want.data<float>()[(most - rows) * s.n + i]) << i;
      }
    }
}

// Where it is widened part by part, the last of a few rows.
TEST_P(NarrowLinearGpu, LargeWeightsHaveTheSameBitsForManyRows) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  const int64_t n = 8192 + 85, k = 16384, rows = 300;
  for (const Narrow format : {Narrow::kInt8, Narrow::kInt4}) {
    NarrowWeight weight{format, make_tensor(testing::allocator(), narrow_shape(format, n, k), DType::kU8),
                        make_tensor(testing::allocator(), narrow_scales(format, n, k), scale_type(format)), k,
                        n};
    uint64_t state = 7;
    for (uint64_t& word : std::span(weight.data.data<uint64_t>(), weight.data.bytes() / 8))
      word = state = state * 6364136223846793005u + 1442695040888963407u;
    auto* scales = weight.scales.data<uint16_t>();
    for (int64_t i = 0; i < weight.scales.shape().numel(); ++i)
      scales[i] = format == Narrow::kInt8 ? to_bf16(0.001f * static_cast<float>(1 + i % 5)).bits
                                          : to_f16(0.01f * static_cast<float>(1 + i % 5)).bits;
    const Tensor x = random_tensor({rows, k}, 1, DType::kBF16), bias = random_tensor({n}, 3, DType::kBF16),
                 got = narrow_linear(c, x, weight, bias, DType::kF32);
    for (int64_t first = 0; first < rows; first += 100) {
      const Tensor want = narrow_linear(c, x.rows(first, 9), weight, bias, DType::kF32);
      for (int64_t i = 0; i < 9 * n; ++i)
        ASSERT_EQ(got.data<float>()[first * n + i], want.data<float>()[i])
            << name(format) << " " << first << " " << i;
    }
  }
}

}  // namespace
}  // namespace flagscale::op
