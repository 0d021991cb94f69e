#include "op/random_normal/random_normal.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

Tensor draw(Isa isa, int64_t n, int64_t first, uint64_t stream) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  const Tensor out = make_tensor(testing::allocator(), {n}, DType::kF32);
  recorder.launch(kRandomNormal, {out, 1234, stream, first, 0.5f, 2.f});
  return out;
}

TEST(RandomNormal, MomentsAndTails) {
  constexpr int64_t n = 400000;
  const Tensor x = draw(machine_isa(), n, 0, random_stream("init", "a"));
  double mean = 0, square = 0, cube = 0, fourth = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double z = (testing::get(x, i) - 0.5) / 2;
    mean += z / n;
    square += z * z / n;
    cube += z * z * z / n;
    fourth += z * z * z * z / n;
  }
  EXPECT_NEAR(mean, 0, 0.01);
  EXPECT_NEAR(square, 1, 0.02);
  EXPECT_NEAR(cube, 0, 0.05);
  EXPECT_NEAR(fourth, 3, 0.1);
}

TEST(RandomNormal, ASliceEqualsThatSliceOfTheWhole) {
  const uint64_t stream = random_stream("init", "a");
  const Tensor whole = draw(machine_isa(), 50000, 0, stream), part = draw(machine_isa(), 700, 20004, stream);
  for (int64_t i = 0; i < 700; ++i) ASSERT_EQ(part.data<float>()[i], whole.data<float>()[20004 + i]);
}

FLAGSCALE_EVERY_CPU_SET(RandomNormalSets);
TEST_P(RandomNormalSets, AgreesWithScalar) {
  const uint64_t stream = random_stream("init", "a");
  EXPECT_LT(testing::relative_error(draw(GetParam(), 5000, 0, stream), draw(Isa::kScalar, 5000, 0, stream)),
            1e-6);
}

TEST(RandomNormal, StreamsDiffer) {
  const Tensor reference = draw(Isa::kScalar, 5000, 0, random_stream("init", "a"));
  const Tensor other = draw(Isa::kScalar, 5000, 0, random_stream("init", "b"));
  double product = 0;
  for (int64_t i = 0; i < 5000; ++i)
    product += (testing::get(reference, i) - 0.5) * (testing::get(other, i) - 0.5) / 4 / 5000;
  EXPECT_NEAR(product, 0, 0.06);
}

}  // namespace
}  // namespace flagscale::op
