#include "op/argmax/argmax.h"

#include <cmath>

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

FLAGSCALE_EVERY_SET(ArgmaxSets);
TEST_P(ArgmaxSets, TheLowestOfTheLargestAndWhatIsNone) {
  const int64_t n = 5003;
  const Tensor x = testing::random_tensor({8, n}, 1, DType::kF32);
  const auto at = [&](int64_t row, int64_t column) -> float& { return x.data<float>()[row * n + column]; };
  at(0, 4000) = at(0, 1200) = at(0, 4999) = 50;  // a tie
  at(1, n - 1) = 50;
  for (int64_t i = 0; i < n; ++i)
    at(2, i) = -INFINITY, at(3, i) = -1 - static_cast<float>(i % 7), at(4, i) = -0.f;
  at(4, 9) = 0.f;
  at(5, 77) = NAN;
  at(6, 78) = INFINITY;
  at(7, 3) = -INFINITY;
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  const Tensor best = argmax(c, x);
  const auto* ids = best.data<int32_t>();
  EXPECT_EQ(ids[0], 1200);
  EXPECT_EQ(ids[1], n - 1);
  EXPECT_EQ(ids[2], kAllMinusInfinity);
  EXPECT_EQ(ids[3], 0);
  EXPECT_EQ(ids[4], 0);
  EXPECT_EQ(ids[5], kNotANumber);
  EXPECT_EQ(ids[6], kNotANumber);
  const float* last = x.data<float>() + 7 * n;
  EXPECT_EQ(ids[7], std::max_element(last, last + n) - last);
}

}  // namespace
}  // namespace flagscale::op
