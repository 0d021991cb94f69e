#include "op/sgd/sgd.h"

#include "op/adamw/step_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;
using testing::tensor_of;

FLAGSCALE_EVERY_SET(SgdSets);
TEST_P(SgdSets, MatchTheFormulaInDouble) {
  constexpr int64_t kSize = 40001;
  const StepScalars step{1e-2f, 0.1f, 1, 1, 1.0f, 0};
  for (const bool momentum : {true, false}) {
    const Tensor grad = random_tensor({kSize}, 1, DType::kF32),
                 param = random_tensor({kSize}, 2, DType::kF32), m = random_tensor({kSize}, 3, DType::kF32),
                 before = random_tensor({kSize}, 2, DType::kF32),
                 m_before = random_tensor({kSize}, 3, DType::kF32),
                 norm = make_tensor(testing::allocator(), {1}, DType::kF32),
                 copy = make_tensor(testing::allocator(), {kSize}, DType::kBF16), scalars = tensor_of(step);
    norm.data<float>()[0] = 4;
    const Team team(2);
    SgdArgs args{param, {}, grad, norm, copy, scalars, momentum ? 0.9f : 0.f, true};
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

FLAGSCALE_TEST_SETS(SgdOnGpu, Isa::kCuda);
TEST_P(SgdOnGpu, HasTheBitsOfTheCpu) {
  constexpr int64_t kSize = 10007;
  const Tensor scalars = tensor_of({1e-2f, 0.1f, 1, 1, 1.0f, 0}), norm = testing::one(4);
  for (const int64_t first : {0, 3})  // read four at a time, and one by one
    for (const bool momentum : {true, false}) {
      const auto update = [&](Isa isa) {
        std::vector<Tensor> changed;
        for (const unsigned seed : {2u, 3u, 4u})
          changed.push_back(random_tensor({first + kSize}, seed, seed == 4 ? DType::kBF16 : DType::kF32)
                                .rows(first, kSize));
        const Tensor grad = random_tensor({first + kSize}, 1, DType::kF32).rows(first, kSize);
        SgdArgs args{changed[0], {}, grad, norm, changed[2], scalars, 0.9f, true};
        if (momentum) args.m = changed[1];
        const Team team(2);
        EagerRecorder(testing::allocator(), team, isa).launch(kSgd, args);
        return changed;
      };
      testing::expect_same_bits(update(Isa::kCuda), update(machine_isa()));
    }
}

}  // namespace
}  // namespace flagscale::op
