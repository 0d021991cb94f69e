#include "op/fp8_linear/fp8_linear.h"

#include <fmt/core.h>

#include "base/error.h"
#include "op/matmul/matmul.h"
#include "op/op_testing.h"
#include "op/swiglu/swiglu.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

struct Case {
  int64_t m, n, k;
};

struct Both {
  NarrowWeight narrow;
  Tensor exact;  // [n, k] fp64: scale times number
};

Both weight_of(int64_t n, int64_t k) {
  const Tensor values = random_tensor({n, k}, 2, DType::kF32);
  const Shape shape = narrow_shape(Narrow::kFp8Rows, n, k);
  Both both{{Narrow::kFp8Rows, make_tensor(testing::allocator(), shape, DType::kU8),
             make_tensor(testing::allocator(), {n}, DType::kBF16), k, n},
            make_tensor(testing::allocator(), {n, k}, DType::kF64)};
  std::fill_n(both.narrow.data.data<uint8_t>(), shape.numel(), uint8_t{0});
  const int64_t pitch = shape[1] / kPanelRows;
  for (int64_t i = 0; i < n; ++i) {
    const std::span<uint8_t> panel(both.narrow.data.data<uint8_t>() + i / kPanelRows * shape[1],
                                   static_cast<size_t>(shape[1]));
    narrow_row(Narrow::kFp8Rows, {values.data<float>() + i * k, static_cast<size_t>(k)}, i % kPanelRows,
               panel, both.narrow.scales.data<uint16_t>() + i / kPanelRows * kPanelRows);
    const BF16 scale = both.narrow.scales.data<BF16>()[i];
    for (int64_t j = 0; j < k; ++j)
      both.exact.data<double>()[i * k + j] =
          static_cast<double>(to_float(scale)) *
          static_cast<double>(from_e4m3(both.narrow.data.data<uint8_t>()[i * pitch + j]));
  }
  return both;
}

FLAGSCALE_TEST_SETS(Fp8Linear, Isa::kScalar, Isa::kCuda);

// x is rounded to three bits behind the first one: 2 % of a product of many numbers.
TEST_P(Fp8Linear, IsNearTheProductOfWhatIsNotRounded) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam()),
      exact(testing::allocator(), team, Isa::kScalar);
  Context c{recorder}, wide{exact};
  for (const Case& s :
       {Case{1, 16, 64}, Case{5, 83, 2176}, Case{40, 132, 576}, Case{3, 40, 401}, Case{150, 70, 1064}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", s.m, s.n, s.k));
    const Both weight = weight_of(s.n, s.k);
    const Tensor x = random_tensor({s.m, s.k}, 1, DType::kBF16), bias = random_tensor({s.n}, 3, DType::kBF16);
    const auto to_double = [](const Tensor& t) { return testing::converted(t, DType::kF64); };
    const Tensor want = linear(wide, to_double(x), weight.exact, to_double(bias));
    EXPECT_LT(testing::relative_error(fp8_linear(c, x, weight.narrow, bias, DType::kF32), want), 0.05);
    EXPECT_LT(testing::relative_error(fp8_linear(c, x, weight.narrow, bias, DType::kBF16), want), 0.05);
  }
}

// What gates is rounded as op/swiglu does, however many rows there are; an odd number of columns is not wide.
TEST_P(Fp8Linear, OfAGatedRowIsThatOfSwiglu) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  for (const Case& s : {Case{1, 16, 64}, Case{2, 40, 401}, Case{9, 83, 2176}, Case{40, 132, 576}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", s.m, s.n, s.k));
    const Both weight = weight_of(s.n, s.k);
    const Tensor both = random_tensor({s.m, 2 * s.k}, 1, DType::kBF16),
                 bias = random_tensor({s.n}, 3, DType::kBF16);
    const Tensor gate = both.columns(0, s.k), up = both.columns(s.k, s.k);
    const Tensor want = fp8_linear(c, swiglu(c, gate, up), weight.narrow, bias, DType::kF32),
                 got = fp8_gated_linear(c, gate, up, weight.narrow, bias, DType::kF32);
    EXPECT_LT(testing::relative_error(got, testing::converted(want, DType::kF64)), 5e-3);
    const Tensor last =
        fp8_gated_linear(c, gate.rows(s.m - 1, 1), up.rows(s.m - 1, 1), weight.narrow, bias, DType::kF32);
    for (int64_t i = 0; i < s.n; ++i)
      ASSERT_EQ(last.data<float>()[i], got.data<float>()[(s.m - 1) * s.n + i]) << i;
  }
}

TEST(Fp8LinearScalar, KeepsWhatFp8Holds) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const Both weight = weight_of(16, 256);
  const Tensor x = make_tensor(testing::allocator(), {1, 256}, DType::kBF16);
  for (int64_t k = 0; k < 256; ++k)  // a slice's largest is 448 / 2^s: its scale is a power of two
    x.data<BF16>()[k] =
        to_bf16(k % 128 == 0 ? 448.f / static_cast<float>(1 + k / 128) : static_cast<float>(k % 16));
  const auto to_double = [](const Tensor& t) { return testing::converted(t, DType::kF64); };
  const Tensor want = linear(c, to_double(x), weight.exact, {});
  EXPECT_LT(testing::relative_error(fp8_linear(c, x, weight.narrow, {}, DType::kF32), want), 1e-6);
}

TEST(Fp8LinearScalar, AnotherLayoutIsRefused) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  Both weight = weight_of(16, 64);
  weight.narrow.format = Narrow::kFp8;
  EXPECT_THROW(fp8_linear(c, random_tensor({1, 64}, 1, DType::kBF16), weight.narrow, {}, DType::kF32), Error);
}

FLAGSCALE_TEST_SETS(Fp8LinearGpu, Isa::kCuda);

// However many rows there are, by whichever kernel and tile (thousands of columns take the wide ones); and
// near the meaning, but for how tensor cores add.
TEST_P(Fp8LinearGpu, ARowsBitsAreItsOwn) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam()),
      scalar(testing::allocator(), team, Isa::kScalar);
  Context c{recorder}, meaning{scalar};
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{83, 64},
                             {132, 576},
                             {96, 2120},
                             {96, 8200},
                             {8452, 72},
                             {6152, 72},
                             {4104, 72},
                             {300, 4096},
                             {70, 401}}) {
    const Both weight = weight_of(n, k);
    const int64_t most = 520;
    const Tensor x = random_tensor({most, k}, 1, DType::kBF16), bias = random_tensor({n}, 3, DType::kBF16);
    const Tensor want = fp8_linear(c, x, weight.narrow, bias, DType::kF32);
    for (const int64_t rows : {1, 7, 8, 9, 16, 17, 33, 65, 130, 200, 300, 400}) {
      SCOPED_TRACE(fmt::format("{} rows n {} k {}", rows, n, k));
      const Tensor got = fp8_linear(c, x.rows(most - rows, rows), weight.narrow, bias, DType::kF32);
      const Tensor rounded = fp8_linear(c, x.rows(most - rows, rows), weight.narrow, bias, DType::kBF16);
      for (int64_t i = 0; i < rows * n; ++i) {
        const float wanted = want.data<float>()[(most - rows) * n + i];
        ASSERT_EQ(got.data<float>()[i], wanted) << i;
        ASSERT_EQ(to_float(rounded.data<BF16>()[i]), to_float(to_bf16(wanted))) << i;
      }
    }
    const int64_t few = 5;
    const Tensor means = fp8_linear(meaning, x.rows(most - few, few), weight.narrow, bias, DType::kF32),
                 got = fp8_linear(c, x.rows(most - few, few), weight.narrow, bias, DType::kF32);
    const double off = testing::relative_error(got, testing::converted(means, DType::kF64));
    EXPECT_LT(off, 2e-3) << n << " " << k;
    RecordProperty("off", fmt::format("{}", off));
  }
}

}  // namespace
}  // namespace flagscale::op
