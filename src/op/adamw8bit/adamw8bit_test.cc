#include "op/adamw8bit/adamw8bit.h"

#include "op/adamw/step_testing.h"
#include "op/adamw8bit/dynamic_map.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;
using testing::tensor_of;

constexpr DynamicMap kMap;

// bitsandbytes' create_dynamic_map(): its first, last and some numbers between.
TEST(DynamicMap, HoldsBitsandbytesNumbers) {
  EXPECT_FLOAT_EQ(kMap.with_sign[0], -0.99296876f);
  EXPECT_FLOAT_EQ(kMap.with_sign[126], -5.5e-7f);
  EXPECT_EQ(kMap.with_sign[127], 0);
  EXPECT_FLOAT_EQ(kMap.with_sign[128], 5.5e-7f);
  EXPECT_EQ(kMap.with_sign[255], 1);
  EXPECT_EQ(kMap.positive[0], 0);
  EXPECT_FLOAT_EQ(kMap.positive[1], 3.25e-7f);
  EXPECT_FLOAT_EQ(kMap.positive[254], 0.99648438f);
  EXPECT_EQ(kMap.positive[255], 1);
  for (int i = 0; i < 255; ++i) {
    EXPECT_LT(kMap.with_sign[i], kMap.with_sign[i + 1]);
    EXPECT_LT(kMap.positive[i], kMap.positive[i + 1]);
  }
}

int nearest_code(const float* map, double x) {
  int best = 0;
  for (int i = 1; i < 256; ++i)
    if (std::fabs(static_cast<double>(map[i]) - x) < std::fabs(static_cast<double>(map[best]) - x)) best = i;
  return best;
}

struct State {
  Tensor param, grad, m, v, m_scale, v_scale, norm;
  explicit State(int64_t n)
      : param(random_tensor({n}, 1, DType::kF32)),
        grad(random_tensor({n}, 2, DType::kF32)),
        m(make_tensor(testing::allocator(), {n}, DType::kU8)),
        v(make_tensor(testing::allocator(), {n}, DType::kU8)),
        m_scale(make_tensor(testing::allocator(), {state_blocks(n)}, DType::kF32)),
        v_scale(make_tensor(testing::allocator(), {state_blocks(n)}, DType::kF32)),
        norm(make_tensor(testing::allocator(), {1}, DType::kF32)) {
    norm.data<float>()[0] = 1;
    for (int64_t i = 0; i < n; ++i) m.data<uint8_t>()[i] = v.data<uint8_t>()[i] = static_cast<uint8_t>(i * 7);
    for (int64_t b = 0; b < state_blocks(n); ++b)
      m_scale.data<float>()[b] = 1.5f, v_scale.data<float>()[b] = 2 + static_cast<float>(b);
  }
};

FLAGSCALE_EVERY_SET(AdamW8bitSets);
TEST_P(AdamW8bitSets, DecodeMoveAndEncodeToTheNearestCode) {
  constexpr int64_t kSize = 70001;
  const StepScalars step{1e-2f, 0.1f, 1 - 0.9f, 1 - 0.95f, 0, 0};
  const State before(kSize), after(kSize);
  const Team team(2);
  EagerRecorder(testing::allocator(), team, GetParam())
      .launch(kAdamW8bit, {after.param,
                           after.m,
                           after.v,
                           after.m_scale,
                           after.v_scale,
                           after.grad,
                           after.norm,
                           {},
                           tensor_of(step),
                           0.9f,
                           0.95f,
                           1e-8f,
                           true});
  std::vector<double> m(kSize), v(kSize);
  std::vector<double> m_most(static_cast<size_t>(state_blocks(kSize))), v_most = m_most;
  for (int64_t i = 0; i < kSize; ++i) {
    const auto at = static_cast<size_t>(i), b = static_cast<size_t>(i / kStateBlock);
    const double g = get(before.grad, i);
    m[at] = 0.9 * static_cast<double>(kMap.with_sign[before.m.data<uint8_t>()[i]]) * 1.5 + 0.1 * g;
    v[at] = 0.95 * static_cast<double>(kMap.positive[before.v.data<uint8_t>()[i]]) *
                (2 + static_cast<double>(b)) +
            0.05 * g * g;
    m_most[b] = std::max(m_most[b], std::fabs(m[at])), v_most[b] = std::max(v_most[b], v[at]);
    const double p = get(before.param, i);
    const double want = p - 1e-2 * (m[at] / 0.1 / (std::sqrt(v[at] / 0.05) + 1e-8) + 0.1 * p);
    ASSERT_NEAR(get(after.param, i), want, 1e-5 * (1 + std::fabs(want))) << i;
  }
  for (int64_t i = 0; i < kSize; ++i) {
    const auto at = static_cast<size_t>(i), b = static_cast<size_t>(i / kStateBlock);
    const double m_share = m[at] / m_most[b], v_share = v[at] / v_most[b];
    const auto chosen = [](const float* map, int code,
                           double share) {  // as near as the nearest, but for rounding
      return std::fabs(static_cast<double>(map[code]) - share) -
             std::fabs(static_cast<double>(map[nearest_code(map, share)]) - share);
    };
    ASSERT_LT(chosen(kMap.with_sign, after.m.data<uint8_t>()[i], m_share), 1e-6) << i << ": " << m_share;
    ASSERT_LT(chosen(kMap.positive, after.v.data<uint8_t>()[i], v_share), 1e-6) << i << ": " << v_share;
  }
  for (int64_t b = 0; b < state_blocks(kSize); ++b) {
    EXPECT_NEAR(get(after.m_scale, b) / m_most[static_cast<size_t>(b)], 1, 1e-5);
    EXPECT_NEAR(get(after.v_scale, b) / v_most[static_cast<size_t>(b)], 1, 1e-5);
  }
}

// Denormal, huge and absent gradients leave numbers.
TEST(AdamW8bit, ExtremeGradientsStayFinite) {
  const StepScalars step{1e-2f, 0, 0.1f, 0.05f, 0, 0};
  for (const float value : {0.f, 1e-45f, -1e-38f, 1e-30f, 1e18f}) {
    State state(600);
    for (int64_t i = 0; i < 600; ++i) state.grad.data<float>()[i] = i % 3 == 0 ? value : 0;
    for (int64_t b = 0; b < 3; ++b) state.m_scale.data<float>()[b] = state.v_scale.data<float>()[b] = 0;
    const Team team(1);
    for (int i = 0; i < 3; ++i)
      EagerRecorder(testing::allocator(), team)
          .launch(kAdamW8bit, {state.param,
                               state.m,
                               state.v,
                               state.m_scale,
                               state.v_scale,
                               state.grad,
                               state.norm,
                               {},
                               tensor_of(step),
                               0.9f,
                               0.95f,
                               1e-8f,
                               true});
    for (int64_t i = 0; i < 600; ++i) ASSERT_TRUE(std::isfinite(get(state.param, i))) << value;
  }
}

FLAGSCALE_TEST_SETS(AdamW8bitOnGpu, Isa::kCuda);
TEST_P(AdamW8bitOnGpu, HasTheBitsOfTheCpu) {
  constexpr int64_t kSize = 10007;
  const Tensor scalars = tensor_of({1e-2f, 0.1f, 1 - 0.9f, 1 - 0.95f, 1.0f, 0}), norm = testing::one(4);
  for (const int64_t first : {0, 3}) {  // read eight at a time, and one by one
    const auto update = [&](Isa isa) {
      const State state(first + kSize);
      std::vector<Tensor> changed;
      for (const Tensor& whole : {state.param, state.m, state.v}) changed.push_back(whole.rows(first, kSize));
      changed.push_back(random_tensor({first + kSize}, 4, DType::kBF16).rows(first, kSize));
      for (const Tensor& scale : {state.m_scale, state.v_scale})
        changed.push_back(scale.rows(0, state_blocks(kSize)));
      const Tensor grad = state.grad.rows(first, kSize);
      const Team team(2);
      for (int i = 0; i < 3; ++i)
        EagerRecorder(testing::allocator(), team, isa)
            .launch(kAdamW8bit, {changed[0], changed[1], changed[2], changed[4], changed[5], grad, norm,
                                 changed[3], scalars, 0.9f, 0.95f, 1e-8f, true});
      return changed;
    };
    testing::expect_same_bits(update(Isa::kCuda), update(machine_isa()));
  }
}

}  // namespace
}  // namespace flagscale::op
