#include "op/dropout/dropout.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;

Tensor drop(const Tensor& x, float rate, int64_t first_row, Isa isa, int threads = 2, float scale = 1,
            uint64_t stream = 7) {
  const Team team(threads);
  EagerRecorder recorder(testing::allocator(), team, isa);
  const DropoutRows rows{first_row};
  const Tensor out = recorder.empty(x.shape(), x.dtype());
  launch_dropout(recorder, {x, out, scale, rate, 3, stream, &rows});
  return out;
}

Tensor ones(int64_t rows, int64_t cols, DType dtype = DType::kF32) {
  const Tensor x = make_tensor(testing::allocator(), {rows, cols}, dtype);
  for (int64_t i = 0; i < rows * cols; ++i) testing::set(x, i, 1);
  return x;
}

FLAGSCALE_EVERY_SET(DropoutSets);
TEST_P(DropoutSets, KeepsItsShareDividedByIt) {
  const Tensor y = drop(ones(300, 1001), 0.3f, 5, GetParam(), 2, 2);
  double kept = 0;
  for (int64_t i = 0; i < 300 * 1001; ++i) {
    ASSERT_TRUE(get(y, i) == 0 || std::fabs(get(y, i) - 2 / 0.7) < 1e-6) << get(y, i);
    kept += get(y, i) != 0;
  }
  EXPECT_NEAR(kept / (300 * 1001), 0.7, 5 * std::sqrt(0.21 / (300 * 1001)));
}

TEST_P(DropoutSets, DrawsByTheRowNotByTheBatch) {
  for (const int64_t cols : {37, 40}) {
    const Tensor all = drop(ones(9, cols), 0.5f, 10, GetParam());
    for (int64_t row = 0; row < 9; ++row) {
      const Tensor alone = drop(ones(1, cols), 0.5f, 10 + row, GetParam(), 1);
      for (int64_t i = 0; i < cols; ++i) ASSERT_EQ(get(alone, i), get(all, row * cols + i));
    }
    const Tensor scalar = drop(ones(9, cols), 0.5f, 10, Isa::kScalar);
    const Tensor narrow = drop(ones(9, cols, DType::kBF16), 0.5f, 10, GetParam());
    const Tensor other = drop(ones(9, cols), 0.5f, 10, GetParam(), 2, 1, 8);
    int differ = 0;
    for (int64_t i = 0; i < 9 * cols; ++i) {
      ASSERT_EQ(get(all, i), get(scalar, i));
      ASSERT_EQ(get(all, i), get(narrow, i));
      differ += get(all, i) != get(other, i);
    }
    EXPECT_GT(differ, 100) << "another stream draws the same";
  }
}

TEST_P(DropoutSets, WithoutARateItScalesInPlace) {
  const Tensor x = random_tensor({3, 5}, 1, DType::kF32), want = testing::converted(x, DType::kF64);
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  launch_dropout(recorder, {x, x, 0.25f, 0, 0, 0, nullptr});
  for (int64_t i = 0; i < 15; ++i) EXPECT_EQ(get(x, i), 0.25 * get(want, i));
}

// What stays of a row depends on its token and choice, not on where its expert has put it.
TEST_P(DropoutSets, DropoutFollowsARowWhereverItLies) {
  constexpr int64_t kTokens = 5, kTopK = 2, kCols = 33;
  const Tensor x = testing::random_tensor({kTokens * kTopK, kCols}, 1, DType::kF32),
               choices = testing::int_tensor({9, 0, 4, 7, 2, 1, 8, 3, 6, 5}).reshape({kTokens, kTopK});
  const Tensor sorted = make_tensor(testing::allocator(), {kTokens, kTopK, kCols}, DType::kF32),
               in_order = make_tensor(testing::allocator(), x.shape(), DType::kF32);
  for (int64_t row = 0; row < kTokens * kTopK; ++row)
    std::copy_n(x.data<float>() + choices.data<int32_t>()[row] * kCols, kCols,
                sorted.data<float>() + row * kCols);
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  const DropoutRows tokens{3}, rows{3 * kTopK};
  launch_dropout(recorder, {sorted, sorted, 1, 0.5f, 1, 2, &tokens, choices});
  launch_dropout(recorder, {x, in_order, 1, 0.5f, 1, 2, &rows});
  for (int64_t row = 0; row < kTokens * kTopK; ++row)
    for (int64_t i = 0; i < kCols; ++i)
      ASSERT_EQ(sorted.data<float>()[row * kCols + i],
                in_order.data<float>()[choices.data<int32_t>()[row] * kCols + i]);
}

}  // namespace
}  // namespace flagscale::op
