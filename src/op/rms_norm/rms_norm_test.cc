#include "op/rms_norm/rms_norm.h"

#include "base/error.h"
#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

const testing::Function kPlain = [](Context& c, const std::vector<Tensor>& in) {
  return rms_norm(c, in[0], in[1], 1e-5f);
};
// Both outputs of the fused form, added.
const testing::Function kFused = [](Context& c, const std::vector<Tensor>& in) {
  const auto n = add_rms_norm(c, in[0], in[1], in[2], 1e-5f);
  return add(c, n.sum, n.y);
};

TEST(RmsNorm, MatchesTheFormula) {
  const Tensor x = random_tensor({5, 19}, 1), w = random_tensor({19}, 2);
  const Tensor y = testing::run(kPlain, {x, w}, Isa::kScalar).output;
  for (int64_t row = 0; row < 5; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < 19; ++i) squares += std::pow(testing::get(x, row * 19 + i), 2);
    const double rstd = 1 / std::sqrt(squares / 19 + static_cast<double>(1e-5f));
    for (int64_t i = 0; i < 19; ++i)
      EXPECT_NEAR(testing::get(y, row * 19 + i), testing::get(x, row * 19 + i) * rstd * testing::get(w, i),
                  1e-12);
  }
}

TEST(RmsNorm, Gradients) {
  testing::expect_gradients(kPlain, {random_tensor({70, 6}, 1), random_tensor({6}, 2)});
  testing::expect_gradients(kPlain, {random_tensor({9, 12}, 1), random_tensor({4}, 2)});  // one norm a head
  testing::expect_gradients(kFused,
                            {random_tensor({9, 5}, 1), random_tensor({9, 5}, 3), random_tensor({5}, 2)});
}

FLAGSCALE_EVERY_SET(RmsNormSets);
TEST_P(RmsNormSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), kPlain, {random_tensor({67, 100}, 1), random_tensor({100}, 2)});
  testing::expect_agrees(GetParam(), kPlain, {random_tensor({67, 96}, 1), random_tensor({32}, 2)});
  testing::expect_agrees(GetParam(), kFused,
                         {random_tensor({33, 48}, 1), random_tensor({33, 48}, 3), random_tensor({48}, 2)});
  for (const int64_t cols : {600, 2056})  // a warp's, and several warps', on a GPU
    testing::expect_agrees(
        GetParam(), kFused,
        {random_tensor({13, cols}, 1), random_tensor({13, cols}, 3), random_tensor({cols}, 2)});
}

TEST_P(RmsNormSets, GradientsInBf16AreRoundedOnce) {
  const Tensor x = testing::converted(random_tensor({300, 96}, 3), DType::kBF16);
  const testing::Function function = [&](Context& c, const std::vector<Tensor>& in) {
    return rms_norm(c, x, in[0], 1e-5f);
  };
  testing::expect_rounded_sums(GetParam(), function, {random_tensor({96}, 1)});
}

TEST(RmsNorm, RefusesAWrongWeight) {
  EXPECT_THROW(testing::run(kPlain, {random_tensor({2, 8}, 1), random_tensor({3}, 2)}, Isa::kScalar), Error);
}

}  // namespace
}  // namespace flagscale::op
