// Training a mixture of experts: losses of its routers in the step's gradients, recomputed layers, and one
// plan for any routing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "train/parity_test_support.h"
#include "train/step.h"

namespace flagscale::train {
namespace {

constexpr int64_t kLength = 24;

// A step with memory and weights.
struct Training {
  std::unique_ptr<Allocator> allocator;
  TrainStep step;

  Training(const std::string& model, StepOptions o, model::Recompute recompute = model::Recompute::kNone)
      : allocator(make_allocator(o.device)), step(testing::config_of(model), with(o, recompute)) {
    step.allocate(*allocator);
    step.initialise(7);
  }
  static StepOptions with(StepOptions o, model::Recompute recompute) {
    o.micro_batch_size = 2, o.sequence_length = kLength, o.threads = 2, o.evaluation = false;
    o.recompute = {recompute, -1};
    return o;
  }
  // Tokens of sequence `seed`, each following from the one before.
  TrainStep::Sums accumulate(int seed, bool first, int64_t micro_batches) {
    const data::MicroBatch batch = step.inputs();
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      const auto at = static_cast<int64_t>(i) % kLength, row = static_cast<int64_t>(i) / kLength + 2 * seed;
      const auto token = [&](int64_t k) {
        return static_cast<int32_t>((row * 31 + k * (3 + row % 5)) % 128);
      };
      batch.tokens[i] = token(at), batch.labels[i] = token(at + 1);
      batch.loss_mask[i] = 1, batch.position_ids[i] = static_cast<int32_t>(at);
    }
    for (size_t s = 0; s < 3; ++s) batch.cu_seqlens[s] = static_cast<int32_t>(s * kLength);
    return step.micro_batch(2, first, micro_batches);
  }
  std::vector<float> gradients() const {
    std::vector<float> all;
    for (const TrainStep::State& s : step.states(true))
      all.insert(all.end(), s.grad.data<float>(), s.grad.data<float>() + s.size);
    return all;
  }
  void update(float lr) { step.gradient_norm(), step.update({lr, 0, 1, 1, 1, 0}); }
};

StepOptions with_losses(float balance, float z) {
  StepOptions o;
  o.balance_loss = balance, o.z_loss = z;
  return o;
}

TEST(Mixture, RecomputedLayersHaveTheSameGradients) {
  for (const char* model : {"mixtral", "qwen2_moe", "qwen3_moe_step"}) {
    Training kept(model, with_losses(0.3f, 0.1f)),
        again(model, with_losses(0.3f, 0.1f), model::Recompute::kFull);
    const auto a = kept.accumulate(0, true, 1), b = again.accumulate(0, true, 1);
    EXPECT_EQ(a.loss, b.loss) << model;
    EXPECT_EQ(a.router.balance, b.router.balance) << model;
    EXPECT_EQ(a.router.z, b.router.z) << model;
    EXPECT_LT(testing::difference(again.gradients(), kept.gradients()), 1e-6) << model;
  }
}

// Two micro-batches whose routing differs: their gradients add up, those of the routers' losses too.
TEST(Mixture, MicroBatchesAddUp) {
  Training t("qwen3_moe", with_losses(0.3f, 0.1f));
  t.accumulate(0, true, 2);
  const std::vector<float> first = t.gradients();
  t.accumulate(1, true, 2);
  const std::vector<float> second = t.gradients();
  t.accumulate(0, true, 2);
  t.accumulate(1, false, 2);
  std::vector<float> sum(first.size());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = first[i] + second[i];
  EXPECT_LT(testing::difference(t.gradients(), sum), 1e-6);
}

TEST(Mixture, TheBalanceLossEvensExpertsOut) {
  const auto after = [](float balance) {
    Training t("mixtral", with_losses(balance, 1e-6f));
    TrainStep::Sums last;
    for (int i = 0; i < 60; ++i) {
      last = t.accumulate(i % 4, true, 1);
      t.update(3e-3f);
    }
    return last;
  };
  const TrainStep::Sums without = after(1e-6f), with = after(0.1f);
  EXPECT_LT(with.router.balance, without.router.balance);
  EXPECT_LT(with.router.balance, 1.1);
  EXPECT_LT(with.loss / with.tokens, std::log(128.0));
}

TEST(Mixture, TrainsInBf16) {
  StepOptions o = with_losses(0.02f, 1e-3f);
  o.compute = DType::kBF16;
  Training t("qwen2_moe", o);
  double first = 0, last = 0;
  for (int i = 0; i < 60; ++i) {
    const auto sums = t.accumulate(i % 4, true, 1);
    last = sums.loss / sums.tokens;
    if (i == 0) first = last;
    t.update(3e-3f);
  }
  EXPECT_LT(last, 0.7 * first);
}

// Losses of some steps, and the gradient of the first one.
struct Steps {
  std::vector<double> losses, router;
  std::vector<float> gradients;
};
Steps steps_of(const std::string& model, StepOptions o, int count, float lr,
               model::Recompute recompute = model::Recompute::kNone) {
  Training t(model, o, recompute);
  Steps steps;
  for (int i = 0; i < count; ++i) {
    const TrainStep::Sums sums = t.accumulate(i % 4, true, 1);
    steps.losses.push_back(sums.loss / sums.tokens);
    steps.router.push_back(sums.router.balance), steps.router.push_back(sums.router.z);
    if (i == 0) steps.gradients = t.gradients();
    t.update(lr);
  }
  return steps;
}

class MixtureGpu : public ::testing::TestWithParam<std::string> {};

TEST_P(MixtureGpu, TrainsAsTheCpuDoes) {
  FLAGSCALE_NEED_GPU();
  StepOptions o = with_losses(0.3f, 0.1f);
  const Steps here = steps_of(GetParam(), o, 10, 1e-3f);
  o.device = DeviceKind::kCuda;
  const Steps there = steps_of(GetParam(), o, 10, 1e-3f);
  EXPECT_LT(testing::difference(there.gradients, here.gradients), 1e-5);
  for (size_t i = 0; i < here.losses.size(); ++i)
    EXPECT_NEAR(there.losses[i] / here.losses[i], 1, 1e-5) << "step " << i;
  for (size_t i = 0; i < here.router.size(); ++i)
    EXPECT_NEAR(there.router[i] / here.router[i], 1, 1e-4) << "step " << i / 2;
}

TEST_P(MixtureGpu, TrainsInBf16) {
  FLAGSCALE_NEED_GPU();
  StepOptions o = with_losses(0.02f, 1e-3f);
  o.compute = DType::kBF16;
  const Steps here = steps_of(GetParam(), o, 1, 3e-3f);
  o.device = DeviceKind::kCuda;
  const Steps there = steps_of(GetParam(), o, 60, 3e-3f);
  EXPECT_NEAR(there.losses.front() / here.losses.front(), 1, 5e-3);
  EXPECT_LT(there.losses.back(), 0.7 * there.losses.front());
}

TEST_P(MixtureGpu, RepeatsToTheBit) {
  FLAGSCALE_NEED_GPU();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    StepOptions o = with_losses(0.3f, 0.1f);
    o.compute = dtype, o.device = DeviceKind::kCuda;
    const Steps once = steps_of(GetParam(), o, 5, 3e-3f), again = steps_of(GetParam(), o, 5, 3e-3f);
    EXPECT_EQ(again.losses, once.losses);
    EXPECT_EQ(again.router, once.router);
    EXPECT_EQ(again.gradients, once.gradients);
  }
}

// In bf16 what a token's paths give to its gradient is rounded in another order.
TEST_P(MixtureGpu, RecomputedLayersHaveTheSameGradients) {
  FLAGSCALE_NEED_GPU();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    StepOptions o = with_losses(0.3f, 0.1f);
    o.compute = dtype, o.device = DeviceKind::kCuda;
    const Steps kept = steps_of(GetParam(), o, 1, 0),
                again = steps_of(GetParam(), o, 1, 0, model::Recompute::kFull);
    EXPECT_EQ(again.losses, kept.losses);
    EXPECT_EQ(again.router, kept.router);
    EXPECT_LT(testing::difference(again.gradients, kept.gradients), dtype == DType::kF32 ? 1e-6 : 2e-2);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, MixtureGpu, ::testing::Values("mixtral", "qwen2_moe", "qwen3_moe_step"),
                         [](const auto& test) { return test.param; });

// What the throughput of a log line is formed with.
TEST(Mixture, AMixturesActiveWeightsAreWhatAStepCounts) {
  Training t("mixtral", {});
  const auto& c = t.step.decoder().config();
  double expected = static_cast<double>(c.vocab_size * c.hidden_size);
  const double q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim,
               d = static_cast<double>(c.hidden_size);
  expected += c.num_layers * (d * (q + 2 * kv) + q * d + d * c.moe.experts +
                              c.moe.top_k * 3 * d * static_cast<double>(c.moe.size));
  EXPECT_DOUBLE_EQ(t.step.decoder().train_flops_per_token(0), 6 * expected);
}

}  // namespace
}  // namespace flagscale::train
