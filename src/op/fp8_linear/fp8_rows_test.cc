#include "op/fp8_linear/fp8_rows.h"

#include <fmt/core.h>

#include "base/error.h"
#include "op/fp8_linear/fp8_linear.h"
#include "op/op_testing.h"
#include "op/rms_norm/rms_norm.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

constexpr float kEps = 1e-5f;

NarrowWeight fp8_weight(int64_t n, int64_t k) {
  const Tensor values = random_tensor({n, k}, 2, DType::kF32);
  const Shape shape = narrow_shape(Narrow::kFp8Rows, n, k);
  NarrowWeight weight{Narrow::kFp8Rows, make_tensor(testing::allocator(), shape, DType::kU8),
                      make_tensor(testing::allocator(), {n}, DType::kBF16), k, n};
  std::fill_n(weight.data.data<uint8_t>(), shape.numel(), uint8_t{0});
  for (int64_t i = 0; i < n; ++i)
    narrow_row(Narrow::kFp8Rows, {values.data<float>() + i * k, static_cast<size_t>(k)}, i % kPanelRows,
               {weight.data.data<uint8_t>() + i / kPanelRows * shape[1], static_cast<size_t>(shape[1])},
               weight.scales.data<uint16_t>() + i / kPanelRows * kPanelRows);
  return weight;
}

struct Norms {
  AddRmsNorm plain;
  Fp8RmsNorm rounded;
};

// Of columns of something wider; of one alone where it is not fused.
Norms norms_of(Context& c, int64_t rows, int64_t cols, bool fused) {
  const Tensor both = random_tensor({rows, 2 * cols + 8}, 1, DType::kBF16),
               weight = random_tensor({cols}, 4, DType::kBF16), x = both.columns(0, cols),
               delta = fused ? both.columns(cols, cols) : Tensor();
  return {fused ? add_rms_norm(c, x, delta, weight, kEps) : AddRmsNorm{x, rms_norm(c, x, weight, kEps)},
          fp8_rms_norm(c, x, delta, weight, kEps)};
}

FLAGSCALE_TEST_SETS(Fp8RmsNormSets, Isa::kScalar, Isa::kCuda);

// To the bit on a GPU; a processor's own norm adds in another order.
TEST_P(Fp8RmsNormSets, RoundsWhatTheNormGives) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  for (const int64_t cols : {8, 64, 200, 576, 1032, 2048, 4104, 16384})
    for (const int64_t rows : {1, 7, 40})
      for (const bool fused : {false, true}) {
        SCOPED_TRACE(fmt::format("{} rows of {}{}", rows, cols, fused ? ", fused" : ""));
        const auto [plain, rounded] = norms_of(c, rows, cols, fused);
        const int64_t pitch = rounded.y.numbers.dim(1), slices = rounded.y.scales.dim(1);
        std::vector<uint8_t> q(static_cast<size_t>(cols));
        int64_t other = 0;
        for (int64_t i = 0; i < rows; ++i) {
          const BF16* y = plain.y.data<BF16>() + i * cols;
          const uint8_t* numbers = rounded.y.numbers.data<uint8_t>() + i * pitch;
          for (int64_t k = 0; k < cols; k += kFp8Numbers) {
            const float scale =
                            round_to_fp8(y + k, std::min(kFp8Numbers, cols - k), &q[static_cast<size_t>(k)]),
                        got = rounded.y.scales.data<float>()[i * slices + k / kFp8Numbers];
            if (GetParam() == Isa::kCuda)
              ASSERT_EQ(got, scale) << i << " " << k;
            else
              ASSERT_NEAR(got, scale, scale / 128) << i << " " << k;
          }
          for (int64_t k = 0; k < cols; ++k) other += numbers[k] != q[static_cast<size_t>(k)] ? 1 : 0;
          for (int64_t k = cols; k < pitch; ++k) ASSERT_EQ(numbers[k], 0) << i << " " << k;
          for (int64_t k = 0; fused && k < cols; ++k)
            ASSERT_EQ(to_float(rounded.sum.data<BF16>()[i * cols + k]),
                      to_float(plain.sum.data<BF16>()[i * cols + k]));
        }
        EXPECT_LE(other, GetParam() == Isa::kCuda ? 0 : rows * cols / 20);
      }
}

// By whichever kernel: few rows and many.
TEST_P(Fp8RmsNormSets, ItsProductsAreThoseOfTheNormRounded) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  for (const int64_t cols : {136, 2056}) {
    const int64_t n = 70;
    const NarrowWeight weight = fp8_weight(n, cols);
    const Tensor bias = random_tensor({n}, 3, DType::kBF16);
    for (const int64_t rows : {1, 2, 3, 9, 16, 17, 130}) {
      SCOPED_TRACE(fmt::format("{} rows of {}", rows, cols));
      const auto [plain, rounded] = norms_of(c, rows, cols, true);
      const Tensor want = fp8_linear(c, plain.y, weight, bias, DType::kF32),
                   got = fp8_linear(c, rounded.y, weight, bias, DType::kF32);
      ASSERT_EQ(got.shape(), want.shape());
      if (GetParam() != Isa::kCuda) {
        EXPECT_LT(testing::relative_error(got, testing::converted(want, DType::kF64)), 5e-3);
        continue;
      }
      for (int64_t i = 0; i < rows * n; ++i) ASSERT_EQ(got.data<float>()[i], want.data<float>()[i]) << i;
    }
  }
}

// As a step has them: room for so many rows, of which some are in use.
TEST(Fp8RmsNorm, AProductHasAsManyRowsAsTheNorm) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const int64_t live = 3, rows = 5, cols = 16;
  const Tensor x = random_tensor({rows, cols}, 1, DType::kBF16),
               norm = random_tensor({cols}, 2, DType::kBF16);
  const NarrowWeight weight = fp8_weight(16, cols);
  const Tensor got = fp8_linear(c, fp8_rms_norm(c, x.with_live(&live), {}, norm, kEps).y, weight, {},
                                DType::kF32),
               want =
                   fp8_linear(c, fp8_rms_norm(c, x.rows(0, live), {}, norm, kEps).y, weight, {}, DType::kF32);
  EXPECT_EQ(got.shape(), (Shape{rows, 16}));
  EXPECT_EQ(got.live(), &live);
  for (int64_t i = 0; i < live * 16; ++i) ASSERT_EQ(got.data<float>()[i], want.data<float>()[i]) << i;
}

TEST(Fp8RmsNorm, WhatDoesNotFitIsRefused) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const auto norm = [&](int64_t cols, int64_t weight, DType dtype) {
    return fp8_rms_norm(c, random_tensor({2, cols}, 1, dtype), {}, random_tensor({weight}, 2, dtype), kEps);
  };
  EXPECT_THROW(norm(12, 12, DType::kBF16), Error);
  EXPECT_THROW(norm(16, 8, DType::kBF16), Error);
  EXPECT_THROW(norm(16, 16, DType::kF32), Error);
  EXPECT_THROW(fp8_linear(c, norm(16, 16, DType::kBF16).y, fp8_weight(16, 24), {}, DType::kF32), Error);
}

}  // namespace
}  // namespace flagscale::op
