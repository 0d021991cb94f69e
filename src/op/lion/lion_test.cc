#include "op/lion/lion.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;

FLAGSCALE_EVERY_CPU_SET(LionSets);
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
      .launch(kLion, {param, m, grad, norm, {}, &step, 0.9f, 0.99f, true});
  for (int64_t i = 0; i < kSize; i += 77) {
    const double way = 0.9 * get(m_before, i) + 0.1 * get(grad, i);
    const double sign = way > 0 ? 1 : way < 0 ? -1 : 0;
    EXPECT_NEAR(get(param, i), get(before, i) - 1e-2 * (sign + 0.1 * get(before, i)), 1e-6) << i;
    EXPECT_NEAR(get(m, i), 0.99 * get(m_before, i) + 0.01 * get(grad, i), 1e-6);
  }
}

}  // namespace
}  // namespace flagscale::op
