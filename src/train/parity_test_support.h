#pragma once
// Steps of a training compared with those of PyTorch and PEFT in tests/golden/train.

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "train/golden_test_support.h"
#include "train/schedule.h"
#include "train/step.h"

#define FLAGSCALE_NEED_GPU()                      \
  if (choose_device("auto") != DeviceKind::kCuda) \
  GTEST_SKIP() << "not run: this machine has no GPU, or this program no kernels for it"

namespace flagscale::train::testing {

inline StepOptions options_for(DType compute, int64_t micro_batch, int64_t length) {
  StepOptions o;
  o.compute = compute;
  o.micro_batch_size = micro_batch;
  o.sequence_length = length;
  o.optimizer.adam_beta2 = 0.95;
  o.threads = 2;
  return o;
}

struct History {
  std::vector<double> loss, norm;
  std::vector<TrainStep::State> states;
};

inline History train(TrainStep& step, const nlohmann::json& settings, const nlohmann::json& tokens,
                     int steps) {
  LrSchedule lr;
  lr.style = "cosine", lr.lr = settings["lr"], lr.min_lr = settings["min_lr"];
  lr.warmup_samples = settings["lr_warmup_samples"], lr.decay_samples = settings["lr_decay_samples"];
  const int64_t batch = settings["global_batch_size"], micro = settings["micro_batch_size"],
                length = settings["seq_length"];
  History history;
  for (int s = 0; s < steps; ++s) {
    TrainStep::Sums total;
    for (int64_t m = 0; m < batch / micro; ++m) {
      fill(step.inputs(), tokens[static_cast<size_t>(s)], static_cast<size_t>(m * micro), length);
      const auto sums = step.micro_batch(micro, m == 0, batch / micro);
      total.loss += sums.loss, total.tokens += sums.tokens;
    }
    history.loss.push_back(total.loss / total.tokens);
    history.norm.push_back(static_cast<double>(step.gradient_norm()));
    op::StepScalars scalars;
    scalars.lr = static_cast<float>(learning_rate(lr, s * batch));
    scalars.weight_decay = settings["weight_decay"];
    scalars.bias1 = static_cast<float>(1 - std::pow(0.9, s + 1));
    scalars.bias2 = static_cast<float>(1 - std::pow(0.95, s + 1));
    scalars.clip = settings["clip_grad"];
    scalars.update = s + 1;
    step.update(scalars);
  }
  history.states = step.states();
  return history;
}

// Of twenty steps.
inline void expect_losses_and_norms(const History& got, const nlohmann::json& want, DType dtype) {
  for (size_t i = 0; i < 20; ++i) {
    const double loss = want["loss"][i], norm = want["grad_norm"][i];
    EXPECT_NEAR(got.loss[i] / loss, 1, dtype == DType::kF32 ? 1e-5 : 5e-3) << "step " << i;
    EXPECT_NEAR(got.norm[i] / norm, 1, dtype == DType::kF32 ? 1e-3 : 5e-2) << "step " << i;
  }
}

}  // namespace flagscale::train::testing
