#include "op/rope/rope.h"

#include "base/error.h"
#include "op/op_testing.h"
#include "op/rope/rope_spec.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

struct Tables {
  Tensor cos, sin;
  explicit Tables(int head_dim) {
    const RopeSpec spec{.head_dim = head_dim, .max_positions = 64};
    cos = make_tensor(testing::allocator(), {64, head_dim / 2}, DType::kF32);
    sin = make_tensor(testing::allocator(), {64, head_dim / 2}, DType::kF32);
    fill_rope_cos(spec, 64, cos.data<float>());
    fill_rope_sin(spec, 64, sin.data<float>());
  }
};

testing::Function rotate(int head_dim, bool interleaved) {
  return [tables = Tables(head_dim), interleaved](Context& c, const std::vector<Tensor>& in) {
    return rope(c, in[0], testing::int_tensor({0, 5, 63}), tables.cos, tables.sin, interleaved);
  };
}

TEST(Rope, RotatesPairsByPositionTimesFrequency) {
  const Tensor x = random_tensor({3, 16}, 1);
  for (const bool interleaved : {false, true}) {
    const Tensor y = testing::run(rotate(8, interleaved), {x}, Isa::kScalar).output;
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t ia = 16 + head * 8 + (interleaved ? 2 * j : j),
                      ib = 16 + head * 8 + (interleaved ? 2 * j + 1 : j + 4);
        const double angle = 5 * std::pow(10000.0, -static_cast<double>(j) / 4), a = testing::get(x, ia),
                     b = testing::get(x, ib);
        EXPECT_NEAR(testing::get(y, ia), a * std::cos(angle) - b * std::sin(angle), 2e-6);
        EXPECT_NEAR(testing::get(y, ib), b * std::cos(angle) + a * std::sin(angle), 2e-6);
      }
  }
}

TEST(Rope, Gradients) {
  testing::expect_gradients(rotate(6, false), {random_tensor({3, 12}, 1)});
  testing::expect_gradients(rotate(6, true), {random_tensor({3, 12}, 1)});
}

FLAGSCALE_EVERY_SET(RopeSets);
TEST_P(RopeSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), rotate(40, false), {random_tensor({3, 80}, 1)});
}

TEST(RopeSpec, UnknownAndImpossibleScalingsAreNamed) {
  RopeSpec spec{.head_dim = 8};
  EXPECT_THROW(set_rope_scaling(spec, "longrope", {}), Error);
  EXPECT_THROW(set_rope_scaling(spec, "llama3", {.factor = 8}), Error);
  EXPECT_THROW(set_rope_scaling(spec, "linear", {.factor = 0}), Error);
}

}  // namespace
}  // namespace flagscale::op
