#include "op/take_drawn/take_drawn.h"

#include "base/error.h"
#include "op/op_testing.h"

namespace flagscale::op {
namespace {

FLAGSCALE_EVERY_SET(TakeDrawnSets);
TEST_P(TakeDrawnSets, TakesWhatWasDrawnOrTheIdItself) {
  std::vector<int32_t> ids, rows, drawn, want;
  for (int32_t i = 0; i < 40; ++i) drawn.push_back(i == 7 ? -2 : 1000 + i);
  for (int32_t i = 0; i < 600; ++i) {
    ids.push_back(i);
    rows.push_back(i % 3 == 0 ? -1 : i * 11 % 40);
    want.push_back(rows.back() < 0 ? i : drawn[static_cast<size_t>(rows.back())]);
  }
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  const Tensor y =
      take_drawn(c, testing::int_tensor(ids), testing::int_tensor(rows), testing::int_tensor(drawn));
  EXPECT_EQ(std::vector<int32_t>(y.data<int32_t>(), y.data<int32_t>() + y.dim(0)), want);
}

TEST(TakeDrawn, RefusesRowsOfOtherTokens) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  EXPECT_THROW(take_drawn(c, testing::int_tensor({1, 2}), testing::int_tensor({1}), testing::int_tensor({1})),
               Error);
}

}  // namespace
}  // namespace flagscale::op
