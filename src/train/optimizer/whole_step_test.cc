// Each optimizer's update within the graph of a whole step.
#include <gtest/gtest.h>

#include "train/optimizer/optimizer.h"
#include "train/parity_test_support.h"

namespace flagscale::train {
namespace {

struct Told {
  std::vector<float> losses_and_norms, weights;
};

// Eight steps of two micro-batches, of which the seventh's loss is not finite: nothing is updated.
Told steps_of(const std::string& optimizer, bool whole) {
  const auto tokens = testing::json_of("train/tokens.json");
  auto options = testing::options_for(DType::kBF16, 4, 32);
  options.device = DeviceKind::kCuda, options.optimizer.name = optimizer;
  TrainStep step(testing::config_of("llama3"), options);
  const auto allocator = make_allocator(DeviceKind::kCuda);
  step.allocate(*allocator);
  step.initialise(7);
  EXPECT_TRUE(step.steps_whole(2));
  Told told;
  for (int s = 0; s < 8; ++s) {
    const op::StepScalars scalars{1e-3f * static_cast<float>(s + 1), 0.1f, 0.1f, 0.05f, 1.f, 0, s + 1};
    const auto fill_part = [&](int64_t m, const data::MicroBatch& inputs) {
      testing::fill(inputs, tokens[static_cast<size_t>(s)], static_cast<size_t>(m * 4), 32);
      if (s == 6 && m == 1) inputs.loss_mask[3] = INFINITY;
      return int64_t{4};
    };
    double loss = 0;
    float norm = 0;
    if (whole) {
      const auto done = step.whole_step({2, 0, fill_part}, scalars);
      loss = done.sums.loss, norm = done.norm;
    } else {
      for (int64_t m = 0; m < 2; ++m) {
        const int64_t seqs = fill_part(m, step.inputs());
        loss += step.micro_batch(seqs, m == 0, 2).loss;
      }
      norm = step.gradient_norm();
      step.update(scalars);
    }
    EXPECT_EQ(std::isfinite(norm), s != 6);
    if (s == 6) continue;  // NaN equals nothing
    told.losses_and_norms.insert(told.losses_and_norms.end(), {static_cast<float>(loss), norm});
  }
  EXPECT_EQ(step.steps_replayed() > 0, whole);
  for (const TrainStep::State& state : step.states())
    for (int64_t i = 0; i < state.size; ++i) told.weights.push_back(number(state.weight, i));
  return told;
}

TEST(Optimizers, WholeStepsOnAGpuHaveTheBitsOfTheirParts) {
  FLAGSCALE_NEED_GPU();
  for (const std::string& name : optimizer_names()) {
    SCOPED_TRACE(name);
    const Told whole = steps_of(name, true), parts = steps_of(name, false), again = steps_of(name, true);
    EXPECT_EQ(whole.losses_and_norms, parts.losses_and_norms);
    EXPECT_EQ(whole.weights, parts.weights);
    EXPECT_EQ(whole.losses_and_norms, again.losses_and_norms);
    EXPECT_EQ(whole.weights, again.weights);
  }
}

}  // namespace
}  // namespace flagscale::train
