#include "op/sgd/sgd.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;

FLAGSCALE_EVERY_CPU_SET(SgdSets);
TEST_P(SgdSets, MatchTheFormulaInDouble) {
  constexpr int64_t kSize = 40001;
  const StepScalars step{1e-2f, 0.1f, 1, 1, 1.0f, 0};
  for (const bool momentum : {true, false}) {
    const Tensor grad = random_tensor({kSize}, 1, DType::kF32),
                 param = random_tensor({kSize}, 2, DType::kF32), m = random_tensor({kSize}, 3, DType::kF32),
                 before = random_tensor({kSize}, 2, DType::kF32),
                 m_before = random_tensor({kSize}, 3, DType::kF32),
                 norm = make_tensor(testing::allocator(), {1}, DType::kF32),
                 copy = make_tensor(testing::allocator(), {kSize}, DType::kBF16);
    norm.data<float>()[0] = 4;
    const Team team(2);
    SgdArgs args{param, {}, grad, norm, copy, &step, momentum ? 0.9f : 0.f, true};
    if (momentum) args.m = m;
    EagerRecorder(testing::allocator(), team, GetParam()).launch(kSgd, args);
    for (int64_t i = 0; i < kSize; i += 77) {
      const double g = get(grad, i) / (4 + 1e-6) + 0.1 * get(before, i);
      const double direction = momentum ? 0.9 * get(m_before, i) + g : g;
      EXPECT_NEAR(get(param, i), get(before, i) - 1e-2 * direction, 1e-6);
      EXPECT_NEAR(get(m, i), momentum ? direction : get(m_before, i), 1e-6);
      EXPECT_EQ(copy.data<BF16>()[i].bits, to_bf16(param.data<float>()[i]).bits);
    }
  }
}

}  // namespace
}  // namespace flagscale::op
