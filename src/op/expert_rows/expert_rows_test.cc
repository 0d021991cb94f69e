#include "op/expert_rows/expert_rows.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;

const std::vector<int32_t> kChoices{2, 0, 2, 3, 0, 3, 3, 2, 2, 0};  // of 5 tokens; nobody takes expert 1

Tensor experts() { return testing::int_tensor(kChoices).reshape({5, 2}); }

// in: x, what is added to the rows so that they differ, weights.
Tensor there_and_back(Context& c, const std::vector<Tensor>& in) {
  const ExpertOrder order = sort_by_expert(c, experts(), 4);
  const Tensor rows = spread_to_experts(c, in[0], order);
  return gather_from_experts(c, add(c, rows, in[1]), in[2], order);
}

TEST(ExpertRows, LieByExpertThenByToken) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder, nullptr};
  const ExpertOrder order = sort_by_expert(c, experts(), 4);
  const auto ints = [](const Tensor& t) {
    return std::vector<int32_t>(t.data<int32_t>(), t.data<int32_t>() + t.shape().numel());
  };
  EXPECT_EQ(ints(order.counts), (std::vector<int32_t>{3, 0, 4, 3}));
  EXPECT_EQ(ints(order.choices), (std::vector<int32_t>{1, 4, 9, 0, 2, 7, 8, 3, 5, 6}));
  const auto rows = ints(order.rows), choices = ints(order.choices);
  for (size_t i = 0; i < rows.size(); ++i)
    EXPECT_EQ(choices[static_cast<size_t>(rows[i])], static_cast<int32_t>(i));
}

// Fewer tokens than the capacity: the rest is not touched.
TEST(ExpertRows, LiveTokensHaveLiveRows) {
  const int64_t live = 3;
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder, nullptr};
  const ExpertOrder order = sort_by_expert(c, experts().with_live(&live), 4);
  const Tensor x = random_tensor({5, 3}, 1).with_live(&live), rows = spread_to_experts(c, x, order);
  EXPECT_EQ(rows.view().rows(), 6);
  EXPECT_EQ(
      order.counts.data<int32_t>()[2] + order.counts.data<int32_t>()[0] + order.counts.data<int32_t>()[3], 6);
  const std::vector<int32_t> tokens{0, 2, 0, 1, 1, 2};  // experts 0: tokens 0, 2; 2: 0, 1; 3: 1, 2
  for (int64_t i = 0; i < 18; ++i)
    EXPECT_EQ(get(rows, i), get(x, tokens[static_cast<size_t>(i / 3)] * 3 + i % 3)) << i;
}

TEST(ExpertRows, Gradients) {
  testing::expect_gradients(
      there_and_back, {random_tensor({5, 7}, 1), random_tensor({5, 2, 7}, 2), random_tensor({5, 2}, 3)});
}

FLAGSCALE_EVERY_SET(ExpertRowsSets);

// Several of the chunks that a GPU counts apart; experts that nobody takes, and one that most do.
TEST_P(ExpertRowsSets, LieInTheSameOrder) {
  const auto order_of = [](Isa isa, const Tensor& experts, int64_t count) {
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context c{recorder, nullptr};
    const ExpertOrder order = sort_by_expert(c, experts, count);
    const Tensor slots = make_tensor(testing::allocator(), {experts.dim(0)}, DType::kI32);
    for (int64_t i = 0; i < experts.dim(0); ++i) slots.data<int32_t>()[i] = static_cast<int32_t>(i % 4) - 1;
    std::vector<int32_t> all;
    for (const Tensor& t : {order.counts, order.rows, order.choices, expert_slots(c, slots, order)})
      all.insert(all.end(), t.data<int32_t>(), t.data<int32_t>() + t.shape().numel());
    return all;
  };
  for (const int32_t experts : {1, 7, 130}) {
    std::mt19937 random(5);
    std::vector<int32_t> choices(1500 * 2);
    for (size_t i = 0; i < choices.size(); ++i)
      choices[i] = i % 3 == 0 ? static_cast<int32_t>(random() % static_cast<unsigned>(experts)) : experts / 2;
    const Tensor chosen = testing::int_tensor(choices).reshape({1500, 2});
    EXPECT_EQ(order_of(GetParam(), chosen, experts), order_of(Isa::kScalar, chosen, experts)) << experts;
  }
}

TEST_P(ExpertRowsSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), there_and_back,
                         {random_tensor({5, 37}, 1), random_tensor({5, 2, 37}, 2), random_tensor({5, 2}, 3)});
}

}  // namespace
}  // namespace flagscale::op
