// optimizer_cpu_offload: states in main memory, against the same run that keeps them on the device. On the
// CPU pieces are copied within main memory, by the same schedule.
#include <gtest/gtest.h>

#include "base/does_not_fit.h"
#include "base/error.h"
#include "base/gib.h"
#include "base/temporary_folder_test_support.h"
#include "device/cuda/cuda.h"
#include "train/memory.h"
#include "train/parity_test_support.h"
#include "train/ranks_test_support.h"

namespace flagscale::train {
namespace {

using testing::RankRun;
using testing::run_rank;
using testing::run_ranks;

TrainOptions offloaded_run(DType compute, DeviceKind device, double share) {
  TrainOptions o = testing::small_run();
  o.compute = compute, o.device = device;
  o.clip_grad = 0.5;  // below the norms of the first steps
  o.log_params_norm = true;
  o.offload = share;
  return o;
}

// Losses, weights, what is kept, and every checkpoint on the way.
void expect_the_same_run(TrainOptions o, int ranks) {
  set_log_level(LogLevel::kWarning);
  const TemporaryFolder folder;
  o.save_interval = 2;
  const double share = o.offload;
  std::vector<std::vector<RankRun>> runs;
  for (const bool offloaded : {false, true}) {
    o.save = folder.path + (offloaded ? "/away" : "/home");
    o.offload = offloaded ? share : 0;
    runs.push_back(ranks > 1 ? run_ranks(o, ranks) : std::vector{run_rank(o, nullptr)});
    for (const RankRun& rank : runs.back()) ASSERT_EQ(rank.error, "");
  }
  EXPECT_EQ(runs[1][0].result.lm_loss, runs[0][0].result.lm_loss);
  EXPECT_EQ(runs[1][0].result.validation_loss, runs[0][0].result.validation_loss);
  EXPECT_EQ(testing::kept_by(runs[1]), testing::kept_by(runs[0]));
  for (size_t r = 0; r < runs[0].size(); ++r) EXPECT_EQ(runs[1][r].weights, runs[0][r].weights);
  const auto home = testing::files_below(folder.path + "/home");
  EXPECT_EQ(home.size(), 3 * 2 + 1u);
  EXPECT_TRUE(testing::files_below(folder.path + "/away") == home);
}

void expect_the_same_runs(DeviceKind device) {
  for (const DType compute : {DType::kF32, DType::kBF16})
    for (const double share : {1.0, 0.3}) {
      SCOPED_TRACE(std::string(name(compute)) + " " + std::to_string(share));
      expect_the_same_run(offloaded_run(compute, device, share), 1);
    }
}

TEST(Offload, HasTheBitsOfAnUpdateAtHome) { expect_the_same_runs(DeviceKind::kCpu); }
TEST(Offload, OnGpuHasTheBitsOfAnUpdateAtHome) {
  FLAGSCALE_NEED_GPU();
  expect_the_same_runs(DeviceKind::kCuda);
}

void expect_others_to_pass(DeviceKind device) {
  for (const char* optimizer : {"lion", "sgd"})
    for (const double momentum : {0.9, 0.0})
      for (const DType compute : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(std::string(optimizer) + " " + std::string(name(compute)) + std::to_string(momentum));
        TrainOptions o = offloaded_run(compute, device, 1);
        o.optimizer.name = optimizer, o.optimizer.sgd_momentum = momentum;
        expect_the_same_run(o, 1);
      }
}

TEST(Offload, EveryOptimizerWithANumberAnElementPasses) { expect_others_to_pass(DeviceKind::kCpu); }
TEST(Offload, OnGpuEveryOptimizerWithANumberAnElementPasses) {
  FLAGSCALE_NEED_GPU();
  expect_others_to_pass(DeviceKind::kCuda);
}

TEST(Offload, OtherOptimizersAreRefusedByName) {
  TrainOptions o = offloaded_run(DType::kF32, DeviceKind::kCpu, 1);
  o.model.hidden_size = 64, o.model.head_dim = o.model.rope.head_dim = 16;  // matrices of 8-bit moments
  for (const char* optimizer : {"muon", "adafactor", "adamw8bit"}) {
    o.optimizer.name = optimizer;
    const std::string error = run_rank(o, nullptr).error;
    EXPECT_NE(error.find(std::string("optimizer_cpu_offload: what ") + optimizer + " keeps"),
              std::string::npos)
        << error;
  }
}

void expect_shares(DeviceKind device, std::initializer_list<int> counts) {
  for (const DType compute : {DType::kF32, DType::kBF16})
    for (const int ranks : counts)
      for (const bool shares : {true, false}) {
        SCOPED_TRACE(std::string(name(compute)) + " " + std::to_string(ranks) + (shares ? " shares" : ""));
        TrainOptions o = offloaded_run(compute, device, ranks == 2 ? 1 : 0.5);
        o.distributed_optimizer = shares;
        expect_the_same_run(o, ranks);
      }
}

TEST(Offload, GoesWithSharesOfSeveralRanks) { expect_shares(DeviceKind::kCpu, {2, 3}); }
TEST(Offload, OnGpuGoesWithSharesOfSeveralRanks) {
  FLAGSCALE_NEED_GPU();
  expect_shares(DeviceKind::kCuda, {2});
}

TEST(Offload, ExpertsAndAdaptersPass) {
  const TemporaryFolder folder;
  TrainOptions o = offloaded_run(DType::kBF16, DeviceKind::kCpu, 0.7);
  o.model.model_type = "mixtral", o.model.tie_embeddings = true;
  o.model.moe.experts = 4, o.model.moe.top_k = 2, o.model.moe.size = o.model.intermediate_size;
  expect_the_same_run(o, 1);
  TrainOptions base = offloaded_run(DType::kF32, DeviceKind::kCpu, 0);
  base.train_iters = 1, base.save = folder.path + "/base";
  ASSERT_EQ(run_rank(base, nullptr).error, "");
  TrainOptions adapter = offloaded_run(DType::kBF16, DeviceKind::kCpu, 1);
  adapter.init_from = base.save;
  adapter.lora = LoraSpec{{"linear_qkv", "down_proj"}, 4, 8, 0, false, "xavier", "zero"};
  expect_the_same_run(adapter, 1);
}

// A checkpoint does not tell where it was kept: saved by either, read by either.
void expect_goes_on_from_either(DeviceKind device) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    const RankRun whole = run_rank(offloaded_run(compute, device, 0), nullptr);
    ASSERT_EQ(whole.error, "");
    for (const auto& [first, second] : {std::pair{0.0, 1.0}, {1.0, 0.0}, {1.0, 0.4}}) {
      SCOPED_TRACE(std::string(name(compute)) + " " + std::to_string(first) + " " + std::to_string(second));
      const TemporaryFolder folder;
      TrainOptions o = offloaded_run(compute, device, first);
      o.save = o.load = folder.path + "/c", o.exit_interval = 3;
      ASSERT_EQ(run_rank(o, nullptr).error, "");
      o.offload = second, o.exit_interval = 0;
      const RankRun resumed = run_rank(o, nullptr);
      ASSERT_EQ(resumed.error, "");
      EXPECT_EQ(resumed.result.iteration, 6);
      EXPECT_EQ(resumed.result.lm_loss, whole.result.lm_loss);
      EXPECT_EQ(resumed.weights, whole.weights);
      EXPECT_EQ(resumed.kept, whole.kept);
    }
  }
}

TEST(Offload, GoesOnFromACheckpointOfEither) { expect_goes_on_from_either(DeviceKind::kCpu); }
TEST(Offload, OnGpuGoesOnFromACheckpointOfEither) {
  FLAGSCALE_NEED_GPU();
  expect_goes_on_from_either(DeviceKind::kCuda);
}

model::DecoderConfig wider() {
  model::DecoderConfig c = testing::small_run().model;
  c.hidden_size = 256, c.intermediate_size = 704, c.num_layers = 6;
  c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = c.rope.head_dim = 64;
  return c;
}

// Planned is taken, to the byte, on both sides; steps take nothing more.
void expect_memory(DeviceKind device) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    StepOptions options = testing::options_for(compute, 1, 16);
    options.device = device;
    const MemoryUse home = TrainStep(wider(), options).memory();
    for (const double share : {1.0, 0.5}) {
      options.offload = share;
      TrainStep step(wider(), options);
      const MemoryUse use = step.memory();
      const double states = static_cast<double>(home.optimizer) / 2 * (compute == DType::kBF16 ? 3 : 2);
      EXPECT_GE(static_cast<double>(use.offloaded), share * states);
      EXPECT_LE(static_cast<double>(use.offloaded), (share + 0.15) * states + 64);
      EXPECT_LT(static_cast<double>(use.total()), static_cast<double>(home.total()) - share * states / 2);
      EXPECT_EQ(use.gradients, home.gradients);
      EXPECT_EQ(use.activations, home.activations);
      const auto allocator = make_allocator(device);
      step.allocate(*allocator);
      step.initialise(1);
      const data::MicroBatch inputs = step.inputs();
      std::fill(inputs.loss_mask.begin(), inputs.loss_mask.end(), 1.f);
      inputs.cu_seqlens[1] = 16;
      for (int i = 0; i < 2; ++i) {
        step.micro_batch(1, true, 1);
        step.gradient_norm();
        op::StepScalars scalars;
        scalars.lr = 1e-3f;
        step.update(scalars);
      }
      EXPECT_EQ(allocator->peak(), step.bytes());
      EXPECT_EQ(allocator->peak(), use.total() - use.graphs);
      EXPECT_EQ(step.pinned_peak(), use.offloaded);
    }
  }
}

TEST(Offload, TakesWhatIsPlanned) { expect_memory(DeviceKind::kCpu); }
TEST(Offload, OnGpuTakesWhatIsPlanned) {
  FLAGSCALE_NEED_GPU();
  expect_memory(DeviceKind::kCuda);
}

std::string refusal_of(const StepOptions& options, size_t available, size_t host) {
  try {
    const TrainStep step(wider(), options);
    const size_t kept_free = options.device == DeviceKind::kCuda ? cuda::kReserve : 0;
    require_memory(wider(), options, step.memory(), available + kept_free, host);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    return error.what();
  }
}

TEST(Offload, WhatMainMemoryDoesNotHoldIsRefusedWithTheShareThatItHolds) {
  StepOptions options = testing::options_for(DType::kBF16, 1, 16);
  options.offload = 1;
  const MemoryUse use = TrainStep(wider(), options).memory();
  EXPECT_EQ(refusal_of(options, use.total(), use.offloaded), "");
  const std::string refused = refusal_of(options, use.total(), use.offloaded * 6 / 10);
  EXPECT_TRUE(refused.starts_with("optimizer_cpu_offload holds 5")) << refused;
  const std::string key = "++train.system.optimizer_offload_fraction=";
  ASSERT_NE(refused.find(key), std::string::npos) << refused;
  EXPECT_TRUE(refused.ends_with("; this machine has " + gib(use.total()) + " free")) << refused;
  options.offload = std::stod(refused.substr(refused.find(key) + key.size()));
  EXPECT_GT(options.offload, 0.3);
  const MemoryUse less = TrainStep(wider(), options).memory();
  EXPECT_LE(less.offloaded, use.offloaded * 6 / 10);
  EXPECT_EQ(refusal_of(options, less.total(), use.offloaded * 6 / 10), "");
  // Where that takes too much of the device's, what does not.
  StepOptions smaller = options;
  smaller.offload = 0, smaller.optimizer.name = "adamw8bit";
  const size_t enough = TrainStep(wider(), smaller).memory().total();
  ASSERT_LT(enough, less.total());
  options.offload = 1;
  const std::string large = refusal_of(options, enough, use.offloaded * 6 / 10);
  const size_t without = large.find("\n  ++train.system.optimizer_cpu_offload=false ");
  ASSERT_NE(without, std::string::npos) << large;
  EXPECT_NE(large.find("++train.model.optimizer.optimizer=adamw8bit: ", without), std::string::npos) << large;
  options.offload = 1, options.ranks = 2;
  EXPECT_NE(refusal_of(options, use.total(), 1 << 20).find("use_distributed_optimizer=true holds 2"),
            std::string::npos);
}

// Where no change alone is enough, those that are together are named, to be typed as they stand.
TEST(Memory, ChangesThatSufficeTogetherAreNamed) {
  StepOptions options = testing::options_for(DType::kBF16, 4, 16);
  options.optimizer.name = "adamw8bit";  // no smaller one to be named
  StepOptions smaller = options;
  smaller.micro_batch_size = 1, smaller.cu_seqlens_capacity = 0;
  const size_t one = TrainStep(wider(), smaller).memory().total();
  smaller.recompute = {model::Recompute::kFull, -1};
  const size_t both = TrainStep(wider(), smaller).memory().total();
  ASSERT_LT(both, one);
  const std::string refused = refusal_of(options, both, 0);
  EXPECT_NE(
      refused.find("\n  together they suffice: ++train.model.micro_batch_size=1 "
                   "++train.system.recompute_granularity=full ++train.system.recompute_method=uniform: " +
                   gib(both) + " in all"),
      std::string::npos)
      << refused;
  EXPECT_EQ(refused.find("train a smaller model"), std::string::npos) << refused;
  EXPECT_EQ(refusal_of(options, one, 0).find("together"), std::string::npos) << "one is enough";
  const std::string never = refusal_of(options, 1000, 0);
  EXPECT_NE(never.find("\n  even together they do not: ++train.model.micro_batch_size=1 "), std::string::npos)
      << never;
  EXPECT_NE(never.find("train a smaller model"), std::string::npos) << never;
}

// Of a GPU's training main memory sees one weight at a time, and copies for a save where it has room.
TEST(Memory, MainMemoryOfAGpusTrainingIsInThePlan) {
  const StepOptions options = testing::options_for(DType::kBF16, 1, 16);
  MemoryUse use;
  use.weights = 1000, use.staging = size_t{3} << 30, use.copies = size_t{4} << 30;
  require_memory(wider(), options, use, 1000, use.staging);
  try {
    require_memory(wider(), options, use, 1000, use.staging - 1);
    ADD_FAILURE() << "it was taken";
  } catch (const DoesNotFit& error) {
    EXPECT_STREQ(error.what(),
                 "weights pass through main memory, 3.0 GiB at a time, which has 3.0 GiB free: end what else "
                 "runs here");
  }
  const std::string taken = "main memory, which has 5.0 GiB free: weights on their way 3.0 GiB";
  constexpr size_t kEnough = size_t{5} << 30;
  EXPECT_EQ(describe_host(use, kEnough, false), taken);
  EXPECT_EQ(describe_host(use, kEnough, true), taken + ", copies for a save 4.0 GiB");
  EXPECT_TRUE(
      describe_host(use, kEnough - 1, true).starts_with(taken + "; no room for copies of the 4.0 GiB "));
  use.offloaded = 1 << 20;
  EXPECT_NE(describe_host(use, kEnough, true).find("offloaded 1.0 MiB, weights"), std::string::npos);
  EXPECT_NE(describe_host(use, kEnough, true).find("; no room for copies"), std::string::npos);
  EXPECT_EQ(describe_host({}, kEnough, true), "");
}

// What does not fit on a GPU: the way out is named where main memory has room.
TEST(Offload, OnGpuIsNamedWhereAPlanDoesNotFit) {
  FLAGSCALE_NEED_GPU();
  StepOptions options = testing::options_for(DType::kBF16, 1, 16);
  options.device = DeviceKind::kCuda;
  const size_t needed = TrainStep(wider(), options).memory().total();
  options.offload = 1;
  const MemoryUse use = TrainStep(wider(), options).memory();
  options.offload = 0;
  const std::string refused = refusal_of(options, needed - 1, use.offloaded + use.staging);
  EXPECT_NE(refused.find("++train.system.optimizer_cpu_offload=true saves "), std::string::npos) << refused;
  EXPECT_NE(refusal_of(options, needed - 1, use.offloaded * 6 / 10 + use.staging)
                .find("optimizer_cpu_offload=true ++train.system.optimizer_offload_fraction=0."),
            std::string::npos);
  EXPECT_EQ(refusal_of(options, needed - 1, 1000).find("offload"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::train
