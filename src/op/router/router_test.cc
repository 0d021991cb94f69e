#include "op/router/router.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;

testing::Function routing(RouterSpec spec, Tensor bias = {}) {
  return [=](Context& c, const std::vector<Tensor>& in) { return route(c, in[0], bias, spec).weights; };
}

std::vector<int32_t> chosen(const Tensor& logits, const RouterSpec& spec, const Tensor& bias = {},
                            Isa isa = Isa::kScalar) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  Context context{recorder, nullptr};
  const Tensor experts = route(context, logits, bias, spec).experts;
  return {experts.data<int32_t>(), experts.data<int32_t>() + experts.shape().numel()};
}

Tensor row_of(const std::vector<double>& values) {
  const Tensor t = make_tensor(testing::allocator(), {1, static_cast<int64_t>(values.size())}, DType::kF64);
  for (size_t i = 0; i < values.size(); ++i) testing::set(t, static_cast<int64_t>(i), values[i]);
  return t;
}

const RouterSpec kMixtral{.top_k = 2}, kQwen2{.top_k = 3, .normalise = false};
const RouterSpec kDeepSeek{.top_k = 3,
                           .score = RouterScore::kSigmoid,
                           .normalise = true,
                           .floor = 1e-20f,
                           .scale = 2.5f,
                           .groups = 4,
                           .kept_groups = 2};

TEST(Router, MixtralsWeightsAreTheSoftmaxOfTheChosenLogits) {
  const Tensor weights = testing::run(routing(kMixtral), {row_of({0.5, 2, -1, 1.25})}, Isa::kScalar).output;
  const double a = std::exp(2.0), b = std::exp(1.25);
  EXPECT_NEAR(get(weights, 0), a / (a + b), 1e-14);
  EXPECT_NEAR(get(weights, 1), b / (a + b), 1e-14);
  EXPECT_EQ(chosen(row_of({0.5, 2, -1, 1.25}), kMixtral), (std::vector<int32_t>{1, 3}));
}

TEST(Router, WithoutRenormalisationWeightsAreProbabilities) {
  const Tensor weights =
      testing::run(routing(kQwen2), {row_of({0, std::log(2.0), std::log(3.0), std::log(4.0)})}, Isa::kScalar)
          .output;
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(get(weights, i), (4 - i) / 10.0, 1e-14);
}

TEST(Router, OfEqualScoresTheFirstWins) {
  EXPECT_EQ(chosen(row_of({1, 2, 2, 2}), kMixtral), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(chosen(row_of({NAN, NAN, NAN, NAN}), kMixtral), (std::vector<int32_t>{0, 1}))
      << "distinct all the same";
}

// Groups are ranked by their two best with bias; the weight has none of it.
TEST(Router, DeepSeeksGroupsAndBias) {
  const Tensor logits = row_of({3, -4, 0.5, 0.4, 1, 1, -2, 2}),
               bias = row_of({0, 0, 0.1, 0.1, 0, 0, 0, 0}).reshape({8});
  RouterSpec spec = kDeepSeek;
  spec.top_k = 2;
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  // sums: 0.97, 1.44, 1.46, 1.00: groups 1 and 2
  EXPECT_EQ(chosen(logits, spec, bias), (std::vector<int32_t>{4, 5}));
  const Tensor weights = testing::run(routing(spec, bias), {logits}, Isa::kScalar).output;
  EXPECT_NEAR(get(weights, 0), 2.5 * sigmoid(1) / (2 * sigmoid(1)), 1e-12);
  EXPECT_EQ(chosen(logits, spec), (std::vector<int32_t>{4, 5}));
  spec.kept_groups = 4;
  EXPECT_EQ(chosen(logits, spec, bias), (std::vector<int32_t>{0, 7}));
}

TEST(Router, Gradients) {
  for (const RouterSpec& spec : {kMixtral, kQwen2, kDeepSeek})
    testing::expect_gradients(routing(spec), {random_tensor({6, 8}, 3)});
}

// What the losses add to the gradient of two layers' logits, against differences of what the statistics say.
void expect_loss_gradients(RouterLosses losses) {
  constexpr int64_t kTokens = 5, kExperts = 8;
  const RouterSpec spec = kQwen2;
  const float scale = 0.5f;
  losses.scale = &scale;
  losses.statistics = make_tensor(testing::allocator(), {2, 2 * kExperts + 1}, DType::kF64);
  const std::vector<Tensor> logits{random_tensor({kTokens, kExperts}, 1),
                                   random_tensor({kTokens, kExperts}, 2)};
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  const auto forward = [&](Tape* tape) {
    Context context{recorder, tape};
    std::vector<Tensor> weights;
    for (int l = 0; l < 2; ++l)
      weights.push_back(route(context, logits[static_cast<size_t>(l)], {}, spec, &losses, l).weights);
    return weights;
  };
  const auto value = [&] {
    forward(nullptr);
    const RouterLossValues v = router_loss_values(losses, spec.top_k, kTokens);
    const int layers = losses.across_layers ? 1 : 2;  // Megatron adds the layers' losses
    return 0.5 * (layers * static_cast<double>(losses.balance) * v.balance +
                  2 * static_cast<double>(losses.z) * v.z);
  };
  Tape tape = make_tape();
  for (const Tensor& one : logits) tape.require(one);
  for (const Tensor& weights : forward(&tape)) {
    const Tensor zero = make_tensor(testing::allocator(), weights.shape(), DType::kF64);
    std::fill_n(zero.data<double>(), zero.shape().numel(), 0.0);
    tape.seed(weights, zero);
  }
  tape.backward(recorder);
  for (const Tensor& one : logits)
    for (int64_t i = 0; i < kTokens * kExperts; ++i) {
      const double x = get(one, i), h = 1e-6;
      testing::set(one, i, x + h);
      const double up = value();
      testing::set(one, i, x - h);
      const double down = value();
      testing::set(one, i, x);
      ASSERT_NEAR(get(tape.grad(one), i), (up - down) / (2 * h), 1e-8) << i;
    }
}

TEST(Router, LossesAddTheirGradients) {
  expect_loss_gradients({.balance = 0.7f});
  expect_loss_gradients({.balance = 0.7f, .across_layers = true});
  expect_loss_gradients({.z = 0.3f});
  expect_loss_gradients({.balance = 0.2f, .z = 0.3f});
}

// Megatron's switch_load_balancing_loss_func of even use.
TEST(Router, EvenUseCostsOne) {
  const Tensor logits = make_tensor(testing::allocator(), {4, 4}, DType::kF64);
  for (int64_t i = 0; i < 16; ++i) testing::set(logits, i, i / 4 == i % 4 ? 1e-9 : 0);
  RouterLosses losses{.balance = 0.02f, .z = 0.5f};
  losses.statistics = make_tensor(testing::allocator(), {1, 9}, DType::kF64);
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context context{recorder, nullptr};
  route(context, logits, {}, {.top_k = 1}, &losses, 0);
  const RouterLossValues v = router_loss_values(losses, 1, 4);
  EXPECT_NEAR(v.balance, 1, 1e-8);
  EXPECT_NEAR(v.z, std::log(4.0) * std::log(4.0), 1e-7);
}

FLAGSCALE_EVERY_SET(RouterSets);
TEST_P(RouterSets, AgreesWithScalarInDouble) {
  for (const RouterSpec& spec : {kMixtral, kQwen2, kDeepSeek}) {
    const Tensor logits = random_tensor({37, 44}, 5);
    const testing::Result exact = testing::run(routing(spec), {logits}, Isa::kScalar),
                          got = testing::run(routing(spec), {testing::converted(logits, DType::kF32)},
                                             GetParam());
    EXPECT_LT(testing::relative_error(got.output, exact.output), 1e-5);
    EXPECT_LT(testing::relative_error(got.grads[0], exact.grads[0]), 1e-5);
    EXPECT_EQ(chosen(testing::converted(logits, DType::kF32), spec, {}, GetParam()), chosen(logits, spec));
  }
}

// Of two layers: what they tell, and what they add to the gradient of the first one's logits.
TEST_P(RouterSets, LossesAgreeWithScalarInDouble) {
  constexpr int64_t kTokens = 150, kExperts = 44;
  for (const bool across : {false, true}) {
    const auto run = [&](DType dtype, Isa isa) {
      RouterLosses losses{.balance = 0.7f, .z = 0.3f, .across_layers = across};
      losses.statistics = make_tensor(testing::allocator(), {2, 2 * kExperts + 1}, dtype);
      const testing::Function function = [&](Context& c, const std::vector<Tensor>& in) {
        route(c, in[1], {}, kQwen2, &losses, 1);
        return route(c, in[0], {}, kQwen2, &losses, 0).weights;
      };
      const testing::Result result =
          testing::run(function,
                       {testing::converted(random_tensor({kTokens, kExperts}, 1), dtype),
                        testing::converted(random_tensor({kTokens, kExperts}, 2), dtype)},
                       isa);
      return std::pair{result.grads[0], losses.statistics};
    };
    const auto exact = run(DType::kF64, Isa::kScalar), got = run(DType::kF32, GetParam());
    EXPECT_LT(testing::relative_error(got.first, exact.first), 1e-5);
    for (int64_t i = 0; i < 2 * (2 * kExperts + 1); ++i)
      EXPECT_NEAR(get(got.second, i) / get(exact.second, i), 1, 1e-5) << i;
  }
}

TEST_P(RouterSets, ATokenIsRoutedTheSameAloneAndInABatch) {
  const Tensor logits = testing::converted(random_tensor({9, 24}, 7), DType::kF32);
  const Tensor all = testing::run(routing(kQwen2), {logits}, GetParam()).output;
  for (int64_t row = 0; row < 9; ++row) {
    const Tensor one = testing::run(routing(kQwen2), {logits.rows(row, 1)}, GetParam()).output;
    for (int64_t j = 0; j < 3; ++j) EXPECT_EQ(one.data<float>()[j], all.data<float>()[row * 3 + j]);
  }
}

}  // namespace
}  // namespace flagscale::op
