#include "op/swiglu/swiglu.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

const testing::Function kSeparate = [](Context& c, const std::vector<Tensor>& in) {
  return swiglu(c, in[0], in[1]);
};
// Columns of one product, as a model uses it: the gradient is one tensor.
const testing::Function kFused = [](Context& c, const std::vector<Tensor>& in) {
  const int64_t n = in[0].dim(1) / 2;
  return swiglu(c, in[0].columns(0, n), in[0].columns(n, n));
};

TEST(Swiglu, MatchesTheFormula) {
  const Tensor gate = random_tensor({3, 7}, 1), up = random_tensor({3, 7}, 2);
  const Tensor y = testing::run(kSeparate, {gate, up}, Isa::kScalar).output;
  for (int64_t i = 0; i < 21; ++i) {
    const double g = testing::get(gate, i);
    EXPECT_NEAR(testing::get(y, i), g / (1 + std::exp(-g)) * testing::get(up, i), 1e-14);
  }
}

TEST(Swiglu, Gradients) {
  testing::expect_gradients(kSeparate, {random_tensor({4, 9}, 1), random_tensor({4, 9}, 2)});
  testing::expect_gradients(kFused, {random_tensor({4, 18}, 1)});
}

FLAGSCALE_EVERY_SET(SwigluSets);
TEST_P(SwigluSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), kFused, {random_tensor({13, 74}, 1)});
}

}  // namespace
}  // namespace flagscale::op
