#include "op/elementwise/elementwise.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

const testing::Function kTwice = [](Context& c, const std::vector<Tensor>& in) {
  return add(c, add(c, in[0], in[1]), in[0]);
};

TEST(Elementwise, GradientsOfATensorUsedTwiceAddUp) {
  testing::expect_gradients(kTwice, {random_tensor({3, 5}, 1), random_tensor({3, 5}, 2)});
}

FLAGSCALE_EVERY_SET(ElementwiseSets);
TEST_P(ElementwiseSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), kTwice, {random_tensor({3, 37}, 1), random_tensor({3, 37}, 2)});
}

TEST(Elementwise, ACheckpointGivesTheSameGradients) {
  const testing::Function again = [](Context& c, const std::vector<Tensor>& in) {
    const Tape::Function forward = [](Recorder& recorder, Tape* tape, const Tensor& x) {
      Context inner{recorder, tape};
      return add(inner, x, add(inner, x, x));
    };
    return c.tape ? c.tape->checkpoint(c.recorder, in[0], forward) : forward(c.recorder, nullptr, in[0]);
  };
  testing::expect_gradients(again, {random_tensor({3, 5}, 1)});
}

TEST_P(ElementwiseSets, CastRoundsToNearestEvenAndKeepsNaN) {
  const Tensor x = make_tensor(testing::allocator(), {3}, DType::kF32);
  x.data<float>()[0] = 1.00390625f;  // halfway: to even, down
  x.data<float>()[1] = NAN;
  x.data<float>()[2] = -3.0e38f;
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context context{recorder, nullptr};
  const Tensor y = cast(context, x, DType::kBF16);
  EXPECT_EQ(to_float(y.data<BF16>()[0]), 1.f);
  EXPECT_TRUE(std::isnan(to_float(y.data<BF16>()[1])));
  EXPECT_EQ(y.data<BF16>()[2].bits, to_bf16(-3.0e38f).bits);
}

}  // namespace
}  // namespace flagscale::op
