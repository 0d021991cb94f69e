#include "op/lion/lion.h"

#include "op/adamw/step_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;
using testing::tensor_of;

FLAGSCALE_EVERY_SET(LionSets);
TEST_P(LionSets, MatchTheFormulaInDouble) {
  constexpr int64_t kSize = 40001;
  const StepScalars step{1e-2f, 0.1f, 1, 1, 1.0f, 0};
  const Tensor grad = random_tensor({kSize}, 1, DType::kF32), param = random_tensor({kSize}, 2, DType::kF32),
               m = random_tensor({kSize}, 3, DType::kF32), before = random_tensor({kSize}, 2, DType::kF32),
               m_before = random_tensor({kSize}, 3, DType::kF32),
               norm = make_tensor(testing::allocator(), {1}, DType::kF32);
  norm.data<float>()[0] = 0.5f;
  // Where nothing ever came, nothing but decay happens; the least number there is has a sign.
  for (const Tensor& t : {grad, m, m_before}) t.data<float>()[0] = t.data<float>()[77] = 0;
  m.data<float>()[77] = m_before.data<float>()[77] = 1e-44f;
  const Team team(2);
  EagerRecorder(testing::allocator(), team, GetParam())
      .launch(kLion, {param, m, grad, norm, {}, tensor_of(step), 0.9f, 0.99f, true});
  for (int64_t i = 0; i < kSize; i += 77) {
    const double way = 0.9 * get(m_before, i) + 0.1 * get(grad, i);
    const double sign = way > 0 ? 1 : way < 0 ? -1 : 0;
    EXPECT_NEAR(get(param, i), get(before, i) - 1e-2 * (sign + 0.1 * get(before, i)), 1e-6) << i;
    EXPECT_NEAR(get(m, i), 0.99 * get(m_before, i) + 0.01 * get(grad, i), 1e-6);
  }
}

FLAGSCALE_TEST_SETS(LionOnGpu, Isa::kCuda);
TEST_P(LionOnGpu, HasTheBitsOfTheCpu) {
  constexpr int64_t kSize = 10007;
  const Tensor scalars = tensor_of({1e-2f, 0.1f, 1, 1, 1.0f, 0}), norm = testing::one(4);
  for (const int64_t first : {0, 3}) {  // read four at a time, and one by one
    const auto update = [&](Isa isa) {
      std::vector<Tensor> changed;
      for (const unsigned seed : {2u, 3u, 4u})
        changed.push_back(
            random_tensor({first + kSize}, seed, seed == 4 ? DType::kBF16 : DType::kF32).rows(first, kSize));
      const Tensor grad = random_tensor({first + kSize}, 1, DType::kF32).rows(first, kSize);
      const Team team(2);
      EagerRecorder(testing::allocator(), team, isa)
          .launch(kLion, {changed[0], changed[1], grad, norm, changed[2], scalars, 0.9f, 0.99f, true});
      return changed;
    };
    testing::expect_same_bits(update(Isa::kCuda), update(machine_isa()));
  }
}

}  // namespace
}  // namespace flagscale::op
