// The precision-aware optimizer: weights, gradients and moments in bf16, against PyTorch's fused AdamW over
// the same, and against runs in fp32 where they meet.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "io/checkpoint.h"
#include "kernel/eager.h"
#include "train/memory.h"
#include "train/parity_test_support.h"
#include "train/ranks_test_support.h"

namespace flagscale::train {
namespace {

using testing::json_of;
using testing::kGolden;
using testing::RankRun;
using testing::run_rank;

constexpr StateTypes kNarrow{DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};

Tensor bf16_of(const nlohmann::json& values, Allocator& memory) {
  const Tensor tensor = make_tensor(memory, {static_cast<int64_t>(values.size())}, DType::kBF16);
  for (size_t i = 0; i < values.size(); ++i) tensor.data<BF16>()[i] = to_bf16(values[i].get<float>());
  return tensor;
}

// In units of the last bit, which rounding may turn where PyTorch's fp32 differs in its own.
void expect_within_a_bit(const Tensor& got, const nlohmann::json& want, const char* what) {
  int64_t unlike = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const int got_bits = got.data<BF16>()[i].bits, want_bits = to_bf16(want[i].get<float>()).bits;
    EXPECT_LE(std::abs(got_bits - want_bits), 1) << what << " " << i;
    unlike += got_bits != want_bits;
  }
  EXPECT_LE(unlike, 2) << what;
}

TEST(StateTypes, UpdatesAreThoseOfPyTorchsFusedAdamW) {
  const auto golden = json_of("train/state_types.json")["updates"];
  const auto memory = make_cpu_allocator();
  const Team team(2);
  EagerRecorder recorder(*memory, team, machine_isa());
  const Tensor weight = bf16_of(golden["before"], *memory);
  const Tensor m = make_tensor(*memory, weight.shape(), DType::kBF16),
               v = make_tensor(*memory, weight.shape(), DType::kBF16);
  const Tensor sums = make_tensor(*memory, {1}, DType::kF64), norm = make_tensor(*memory, {1}, DType::kF32),
               scalars = make_tensor(*memory, {sizeof(op::StepScalars)}, DType::kU8);
  for (int64_t step = 1; step <= 3; ++step) {
    const auto& want = golden["steps"][static_cast<size_t>(step - 1)];
    const Tensor gradient = bf16_of(want["gradient"], *memory);
    const op::StepScalars now{golden["lr"],
                              0.1f,
                              static_cast<float>(1 - std::pow(0.9, step)),
                              static_cast<float>(1 - std::pow(0.95, step)),
                              golden["clip"],
                              0,
                              step};
    copy_from_host(&now, scalars);
    recorder.launch(op::kGradSquares, {gradient, sums});
    recorder.launch(op::kGradNorm, {sums, norm, {}});
    recorder.launch(op::kAdamW, {weight, m, v, gradient, norm, {}, scalars, 0.9f, 0.95f, 1e-8f, true});
    EXPECT_NEAR(norm.data<float>()[0] / want["norm"].get<float>(), 1, 1e-6);
    expect_within_a_bit(weight, want["weight"], "weight");
    expect_within_a_bit(m, want["exp_avg"], "exp_avg");
    expect_within_a_bit(v, want["exp_avg_sq"], "exp_avg_sq");
  }
}

void expect_pytorchs_steps(DeviceKind device) {
  const auto golden = json_of("train/state_types.json"), tokens = json_of("train/tokens.json");
  std::vector<std::vector<double>> norms;
  for (int run = 0; run < 2; ++run) {
    const auto allocator = make_allocator(device);
    StepOptions options = testing::options_for(DType::kBF16, 4, 32);
    options.device = device, options.optimizer.types = kNarrow;
    TrainStep step(testing::config_of("llama3"), options);
    step.allocate(*allocator);
    step.load(*io::open_weights(kGolden + "model/llama3"));
    const testing::History got = testing::train(step, golden["settings"], tokens, 20);
    EXPECT_EQ(allocator->peak(), step.bytes());
    testing::expect_losses_and_norms(got, golden["train"], DType::kBF16);
    for (const auto& state : got.states) {
      ASSERT_EQ(state.weight.dtype(), DType::kBF16);
      double squares = 0;
      for (int64_t i = 0; i < state.size; ++i)
        squares += std::pow(static_cast<double>(number(state.weight, i)), 2);
      EXPECT_NEAR(std::sqrt(squares) / golden["train"]["final"][state.name]["norm"].get<double>(), 1, 5e-3)
          << state.name;
    }
    norms.push_back(got.norm);
  }
  EXPECT_EQ(norms[1], norms[0]);  // to the bit
}

TEST(StateTypes, TwentyStepsEqualPyTorchs) { expect_pytorchs_steps(DeviceKind::kCpu); }
TEST(StateTypes, TwentyStepsOnAGpuEqualPyTorchs) {
  FLAGSCALE_NEED_GPU();
  expect_pytorchs_steps(DeviceKind::kCuda);
}

// An optimizer, a gradient and a weight of 2 bytes in place of 4, and no master copy.
TEST(StateTypes, ThePlanHasTheirSizes) {
  const auto planned = [](const StateTypes& types) {
    StepOptions options = testing::options_for(DType::kBF16, 1, 16);
    options.optimizer.types = types;
    return TrainStep(testing::small_run().model, options).memory();
  };
  const MemoryUse wide = planned({}), narrow = planned(kNarrow);
  const auto near = [](size_t got, size_t want) {
    EXPECT_NEAR(static_cast<double>(got), static_cast<double>(want), 4096);
  };
  near(narrow.optimizer, wide.optimizer / 2);
  near(narrow.gradients, wide.gradients / 2);
  near(narrow.weights, wide.weights / 3);
  const MemoryUse moment = planned({DType::kF32, DType::kF32, DType::kF32, DType::kBF16});
  near(moment.optimizer, wide.optimizer / 4 * 3);
  near(moment.weights, wide.weights);
}

// The message of a plan that does not fit on a GPU names them, where they are not what is planned already.
TEST(StateTypes, OnAGpuAreAmongWhatWouldFit) {
  FLAGSCALE_NEED_GPU();
  const model::DecoderConfig config = testing::small_run().model;
  const auto refused = [&](DType compute, const StateTypes& types) -> std::string {
    StepOptions options = testing::options_for(compute, 1, 16);
    options.device = DeviceKind::kCuda, options.optimizer.types = types;
    const MemoryUse use = TrainStep(config, options).memory();
    try {
      require_memory(config, options, use, use.total() - 1, use.total());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const std::string keys =
      "++train.model.optimizer.use_precision_aware_optimizer=true "
      "++train.model.optimizer.main_params_dtype=bf16 "
      "++train.model.optimizer.main_grads_dtype=bf16 "
      "++train.model.optimizer.exp_avg_dtype=bf16 "
      "++train.model.optimizer.exp_avg_sq_dtype=bf16 saves ";
  EXPECT_NE(refused(DType::kBF16, {}).find(keys), std::string::npos) << refused(DType::kBF16, {});
  for (const std::string& other : {refused(DType::kF32, {}), refused(DType::kBF16, kNarrow)}) {
    EXPECT_NE(other.find("training needs"), std::string::npos);
    EXPECT_EQ(other.find("use_precision_aware_optimizer"), std::string::npos) << other;
  }
}

TrainOptions narrow_run(const StateTypes& types, DeviceKind device = DeviceKind::kCpu) {
  TrainOptions o = testing::small_run();
  o.compute = DType::kBF16, o.device = device, o.optimizer.types = types;
  o.clip_grad = 0.5;  // below the norms of the first steps
  o.log_params_norm = o.log_num_zeros_in_grad = true;
  return o;
}

void expect_goes_on(DeviceKind device) {
  for (const StateTypes& types :
       {kNarrow, StateTypes{DType::kF32, DType::kBF16, DType::kF32, DType::kBF16}}) {
    set_log_level(LogLevel::kWarning);
    const TemporaryFolder folder;
    TrainOptions o = narrow_run(types, device);
    const RankRun whole = run_rank(o, nullptr);
    ASSERT_EQ(whole.error, "");
    o.save = o.load = folder.path + "/c", o.exit_interval = 3;
    ASSERT_EQ(run_rank(o, nullptr).error, "");
    const io::Checkpoint saved(o.save);
    EXPECT_EQ(saved.find("model.norm.weight")->dtype, types.params);
    EXPECT_EQ(saved.find("exp_avg:model.norm.weight")->dtype, types.exp_avg);
    EXPECT_EQ(saved.find("exp_avg_sq:model.norm.weight")->dtype, types.exp_avg_sq);
    o.exit_interval = 0;
    const RankRun resumed = run_rank(o, nullptr);
    ASSERT_EQ(resumed.error, "");
    EXPECT_EQ(resumed.result.lm_loss, whole.result.lm_loss);
    EXPECT_EQ(resumed.weights, whole.weights);
    EXPECT_EQ(resumed.kept, whole.kept);
  }
}

TEST(StateTypes, ACheckpointGoesOnToTheBit) { expect_goes_on(DeviceKind::kCpu); }
TEST(StateTypes, OnAGpuACheckpointGoesOnToTheBit) {
  FLAGSCALE_NEED_GPU();
  expect_goes_on(DeviceKind::kCuda);
}

// What a run has before its first update: of a checkpoint of other types.
TEST(StateTypes, ACheckpointOfOthersIsWidenedExactlyOrRoundedAndSaysSo) {
  set_log_level(LogLevel::kWarning);
  for (const bool narrows : {false, true}) {
    const TemporaryFolder folder;
    TrainOptions o = narrow_run(narrows ? StateTypes{} : kNarrow);
    o.save = o.load = folder.path + "/c", o.exit_interval = 3;
    const RankRun saved = run_rank(o, nullptr);
    ASSERT_EQ(saved.error, "");
    o.optimizer.types = narrows ? kNarrow : StateTypes{};
    ::testing::internal::CaptureStderr();
    const Trainer trainer(o);
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(said.find("it is rounded") != std::string::npos, narrows) << said;
    size_t at = 0;
    for (const TrainStep::State& state : trainer.step().states()) {
      EXPECT_EQ(state.kept[0].dtype, narrows ? DType::kBF16 : DType::kF32);
      for (int64_t i = 0; i < state.size; ++i, ++at) {
        const float before = saved.weights[at];
        ASSERT_EQ(number(state.weight, i), narrows ? to_float(to_bf16(before)) : before) << state.name;
      }
      const std::string& bytes = saved.kept.at("exp_avg_sq:" + state.name);
      const auto* const kept = reinterpret_cast<const float*>(state.kept[1].bytes.data());
      for (int64_t i = 0; i < state.size && !narrows; ++i)
        ASSERT_EQ(kept[i], to_float(reinterpret_cast<const BF16*>(bytes.data())[i])) << state.name;
    }
  }
}

TEST(StateTypes, SharesOfSeveralRanksHaveTheBitsOfWholeUpdates) {
  for (const int ranks : {2, 3}) {
    TrainOptions o = narrow_run({DType::kBF16, DType::kF32, DType::kBF16, DType::kBF16});
    std::vector<std::vector<RankRun>> runs;
    for (const bool shares : {false, true}) {
      o.distributed_optimizer = shares;
      runs.push_back(testing::run_ranks(o, ranks));
      for (const RankRun& rank : runs.back()) ASSERT_EQ(rank.error, "");
    }
    EXPECT_EQ(runs[1][0].result.lm_loss, runs[0][0].result.lm_loss);
    EXPECT_EQ(testing::kept_by(runs[1]), runs[0][0].kept);
  }
}

// Some in bf16 already: the others are what may still change.
TEST(StateTypes, APlanThatDoesNotFitNamesThoseNotYetInBf16) {
  const std::string key = "++train.model.optimizer.";
  const auto refusal_of = [](const StepOptions& options) {
    const model::DecoderConfig model = testing::small_run().model;
    const MemoryUse use = TrainStep(model, options).memory();
    try {
      require_memory(model, options, use, use.total() - 1, size_t{1} << 40);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  StepOptions options = testing::options_for(DType::kBF16, 1, 16);
  options.optimizer.types = {DType::kF32, DType::kBF16, DType::kF32, DType::kF32};
  const std::string three = key + "use_precision_aware_optimizer=true " + key + "main_params_dtype=bf16 " +
                            key + "exp_avg_dtype=bf16 " + key + "exp_avg_sq_dtype=bf16 saves ";
  const std::string refused = refusal_of(options);
  EXPECT_NE(refused.find("\n  " + three), std::string::npos) << refused;
  // Ranks add up gradients in fp32.
  options.optimizer.types = {DType::kF32, DType::kF32, DType::kF32, DType::kBF16}, options.ranks = 2;
  const std::string ranks = refusal_of(options);
  EXPECT_NE(ranks.find("main_params_dtype=bf16 " + key + "exp_avg_dtype=bf16 saves "), std::string::npos)
      << ranks;
  options.optimizer.types = kNarrow, options.ranks = 1;
  EXPECT_EQ(refusal_of(options).find("_dtype="), std::string::npos) << refusal_of(options);
}

TEST(StateTypes, WhatTheyDoNotGoWithIsRefusedByName) {
  const auto expect = [](TrainOptions o, const std::string& error, int ranks = 1) {
    const std::string said = testing::run_ranks(o, ranks)[0].error;
    EXPECT_NE(said.find(error), std::string::npos) << said;
  };
  TrainOptions o = narrow_run(kNarrow);
  expect(o, "main_grads_dtype: bf16 is for one rank, and this run has 2", 2);
  o.offload = 0.5;
  expect(o, "main_params_dtype: bf16 does not go with optimizer_cpu_offload");
  o.offload = 0, o.compute = DType::kF32;
  expect(o, "main_params_dtype: bf16 goes with products in bf16: set bf16: true");
  o.compute = DType::kBF16, o.optimizer.name = "lion";
  expect(o, "main_params_dtype: bf16 is for optimizer: adam, and this run's is lion");
}

}  // namespace
}  // namespace flagscale::train
