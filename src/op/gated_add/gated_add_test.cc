#include "op/gated_add/gated_add.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

const testing::Function kFunction = [](Context& c, const std::vector<Tensor>& in) {
  return gated_add(c, in[0], in[1], in[2]);
};

TEST(GatedAdd, MatchesTheFormula) {
  const Tensor a = random_tensor({3, 5}, 1), gate = random_tensor({3, 1}, 2), b = random_tensor({3, 5}, 3);
  const Tensor y = testing::run(kFunction, {a, gate, b}, Isa::kScalar).output;
  for (int64_t i = 0; i < 15; ++i)
    EXPECT_NEAR(testing::get(y, i),
                testing::get(a, i) + testing::get(b, i) / (1 + std::exp(-testing::get(gate, i / 5))), 1e-14);
}

TEST(GatedAdd, Gradients) {
  testing::expect_gradients(kFunction,
                            {random_tensor({4, 9}, 1), random_tensor({4, 1}, 2), random_tensor({4, 9}, 3)});
}

FLAGSCALE_EVERY_SET(GatedAddSets);
TEST_P(GatedAddSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), kFunction,
                         {random_tensor({13, 70}, 1), random_tensor({13, 1}, 2), random_tensor({13, 70}, 3)});
}

}  // namespace
}  // namespace flagscale::op
