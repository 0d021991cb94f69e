#include "op/adamw/adamw.h"

#include "op/adamw/step_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

struct State {
  Tensor param, grad, m, v, sums, norm, copy;
  // bit i: whether param, m, v, grad are held in bf16.
  State(int64_t n, unsigned narrow) : State(n) {
    for (auto& [tensor, bit] : {std::pair{&param, 1u}, {&m, 2u}, {&v, 4u}, {&grad, 8u}})
      if (narrow & bit) *tensor = testing::converted(*tensor, DType::kBF16);
  }
  explicit State(int64_t n)
      : param(random_tensor({n}, 1, DType::kF32)),
        grad(random_tensor({n}, 2, DType::kF32)),
        m(random_tensor({n}, 3, DType::kF32)),
        v(random_tensor({n}, 4, DType::kF32)),
        sums(make_tensor(testing::allocator(), {(n + kNormBlock - 1) / kNormBlock}, DType::kF64)),
        norm(make_tensor(testing::allocator(), {1}, DType::kF32)),
        copy(make_tensor(testing::allocator(), {n}, DType::kBF16)) {
    for (int64_t i = 0; i < n; ++i) v.data<float>()[i] = std::fabs(v.data<float>()[i]);
  }
  void update(Isa isa, const StepScalars& step) const {
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, isa);
    recorder.launch(kGradSquares, {grad, sums});
    recorder.launch(kGradNorm, {sums, norm, {}});
    recorder.launch(kAdamW,
                    {param, m, v, grad, norm, copy, testing::tensor_of(step), 0.9f, 0.95f, 1e-8f, true});
  }
};

FLAGSCALE_EVERY_SET(AdamWSets);
TEST_P(AdamWSets, MatchTheFormulaInDouble) {
  const StepScalars step{1e-2f, 0.1f, 1 - 0.9f, 1 - 0.95f, 1.0f, 0};
  const State before(70000), after(70000);
  after.update(GetParam(), step);
  double squares = 0;
  for (int64_t i = 0; i < 70000; ++i) squares += std::pow(testing::get(before.grad, i), 2);
  EXPECT_NEAR(testing::get(after.norm, 0) / std::sqrt(squares), 1, 1e-6);
  const double clip = 1 / (std::sqrt(squares) + 1e-6);
  for (int64_t i = 0; i < 70000; i += 77) {
    const double g = testing::get(before.grad, i) * clip, p = testing::get(before.param, i);
    const double m = 0.9 * testing::get(before.m, i) + 0.1 * g,
                 v = 0.95 * testing::get(before.v, i) + 0.05 * g * g;
    const double expected = p - 1e-2 * (m / 0.1 / (std::sqrt(v / 0.05) + 1e-8) + 0.1 * p);
    EXPECT_NEAR(testing::get(after.param, i), expected, 2e-5 * (1 + std::fabs(expected)));
    EXPECT_EQ(after.copy.data<BF16>()[i].bits, to_bf16(after.param.data<float>()[i]).bits);
  }
}

// Each of them in bf16, and any of them: what fp32 would make of the same numbers, rounded once.
TEST_P(AdamWSets, NumbersInBf16AreRoundedOnce) {
  const StepScalars step{1e-2f, 0.1f, 1 - 0.9f, 1 - 0.95f, 1.0f, 0};
  for (unsigned narrow = 1; narrow < 16; ++narrow) {
    const State held(1003, narrow), wide(1003);
    for (const auto& [from, to] : {std::pair{&held.param, &wide.param},
                                   {&held.m, &wide.m},
                                   {&held.v, &wide.v},
                                   {&held.grad, &wide.grad}})
      for (int64_t i = 0; i < 1003; ++i) testing::set(*to, i, testing::get(*from, i));
    held.update(GetParam(), step);
    wide.update(GetParam(), step);
    EXPECT_EQ(testing::get(held.norm, 0), testing::get(wide.norm, 0));
    for (const auto& [got, exact] :
         {std::pair{&held.param, &wide.param}, {&held.m, &wide.m}, {&held.v, &wide.v}})
      for (int64_t i = 0; i < 1003; ++i) {
        const auto want = static_cast<float>(testing::get(*exact, i));
        EXPECT_EQ(testing::get(*got, i),
                  static_cast<double>(got->dtype() == DType::kBF16 ? to_float(to_bf16(want)) : want))
            << narrow << " " << i;
      }
  }
}

TEST(AdamW, ANormThatIsNotFiniteOrASkipChangesNothing) {
  for (const bool spike : {false, true}) {
    const State before(100), after(100);
    if (!spike) after.grad.data<float>()[3] = INFINITY;
    after.update(machine_isa(), {1e-2f, 0.1f, 0.1f, 0.05f, 1.0f, spike});
    for (int64_t i = 0; i < 100; ++i) {
      EXPECT_EQ(after.param.data<float>()[i], before.param.data<float>()[i]);
      EXPECT_EQ(after.m.data<float>()[i], before.m.data<float>()[i]);
    }
  }
}

FLAGSCALE_EVERY_SET(GradNormSets);
TEST_P(GradNormSets, OfALossThatIsNotFiniteIsNone) {
  const State state(1000);
  const Tensor loss = make_tensor(testing::allocator(), {1}, DType::kF32);
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  recorder.launch(kGradSquares, {state.grad, state.sums});
  for (const float value : {3.f, INFINITY, -INFINITY, NAN}) {
    *loss.data<float>() = value;
    recorder.launch(kGradNorm, {state.sums, state.norm, loss});
    EXPECT_EQ(std::isfinite(testing::get(state.norm, 0)), std::isfinite(value)) << value;
  }
}

// Blocks whose sums are formed apart, as ranks do, give the bits of all at once.
TEST(GradNorm, OfBlocksFormedApartIsThatOfAll) {
  constexpr int64_t kSize = 3 * kNormBlock + 1234;
  const State all(kSize), apart(kSize);
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, machine_isa());
  recorder.launch(kGradSquares, {all.grad, all.sums});
  for (const auto& [block, blocks] : {std::pair{int64_t{2}, int64_t{2}}, {0, 2}}) {
    const int64_t first = block * kNormBlock, end = std::min((block + blocks) * kNormBlock, kSize);
    recorder.launch(kGradSquares, {apart.grad.rows(first, end - first), apart.sums.rows(block, blocks)});
  }
  for (const State* state : {&all, &apart}) recorder.launch(kGradNorm, {state->sums, state->norm, {}});
  EXPECT_GT(testing::get(all.norm, 0), 0);
  EXPECT_EQ(testing::get(apart.norm, 0), testing::get(all.norm, 0));
}

}  // namespace
}  // namespace flagscale::op
