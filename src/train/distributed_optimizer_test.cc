// use_distributed_optimizer: ranks that each update a share, against the same ranks that all update
// everything.
#include <gtest/gtest.h>

#include <regex>

#include "base/temporary_folder_test_support.h"
#include "train/optimizer/optimizer.h"
#include "train/parity_test_support.h"
#include "train/ranks_test_support.h"

namespace flagscale::train {
namespace {

using testing::RankRun;
using testing::run_rank;
using testing::run_ranks;

TrainOptions run_of(const std::string& optimizer, DType compute, bool shares = false) {
  TrainOptions o = testing::small_run();
  o.optimizer.name = optimizer;
  o.compute = compute;
  o.clip_grad = 0.5;  // below the norms of the first steps
  o.log_params_norm = o.log_num_zeros_in_grad = true;
  o.distributed_optimizer = shares;
  return o;
}

std::string without_times(const std::string& log) {
  return std::regex_replace(log, std::regex("\\[[0-9 :.-]+\\]|\\(ms\\): [0-9.]+"), "");
}

// Of the last update and of every checkpoint on the way.
void expect_equal_runs(TrainOptions o, int ranks) {
  const TemporaryFolder folder;
  o.save_interval = 1;
  o.save = folder.path + "/whole", o.distributed_optimizer = false;
  const std::vector<RankRun> whole = run_ranks(o, ranks);
  o.save = folder.path + "/shares", o.distributed_optimizer = true;
  const std::vector<RankRun> shares = run_ranks(o, ranks);
  for (const RankRun& rank : shares) ASSERT_EQ(rank.error, "");
  ASSERT_EQ(whole[0].error, "");
  EXPECT_EQ(shares[0].result.lm_loss, whole[0].result.lm_loss);
  EXPECT_EQ(shares[0].result.validation_loss, whole[0].result.validation_loss);
  EXPECT_EQ(without_times(shares[0].log), without_times(whole[0].log));
  EXPECT_NE(shares[0].log.find("params norm"), std::string::npos);
  EXPECT_EQ(testing::kept_by(shares), whole[0].kept);
  const auto files = testing::files_below(folder.path + "/shares");
  EXPECT_EQ(files.size(), 6 * 2 + 1u);
  EXPECT_TRUE(files == testing::files_below(folder.path + "/whole"));
}

TEST(DistributedOptimizer, AdamWHasTheBitsOfWholeUpdates) {
  for (const DType compute : {DType::kF32, DType::kBF16})
    for (const int ranks : {2, 3, 4}) {
      SCOPED_TRACE(std::string(name(compute)) + " " + std::to_string(ranks));
      expect_equal_runs(run_of("adam", compute), ranks);
    }
}

void expect_any_optimizer(DeviceKind device) {
  for (const std::string& optimizer : optimizer_names())
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(optimizer + " " + std::string(name(compute)));
      TrainOptions o = run_of(optimizer, compute);
      o.model.hidden_size = 64, o.model.head_dim = o.model.rope.head_dim = 16;  // matrices of 8-bit moments
      o.device = device;
      expect_equal_runs(o, 3);
    }
}

TEST(DistributedOptimizer, AnyOptimizerHasTheBitsOfWholeUpdates) { expect_any_optimizer(DeviceKind::kCpu); }
TEST(DistributedOptimizer, AnyOptimizerOnASharedGpuHasTheBitsOfWholeUpdates) {
  FLAGSCALE_NEED_GPU();
  expect_any_optimizer(DeviceKind::kCuda);
}

TEST(DistributedOptimizer, ExpertsAndTiedWeightsHaveTheBitsOfWholeUpdates) {
  for (const char* optimizer : {"adam", "muon", "adafactor", "adamw8bit"}) {
    SCOPED_TRACE(optimizer);
    TrainOptions o = run_of(optimizer, DType::kBF16);
    o.model.model_type = "mixtral", o.model.tie_embeddings = true;
    o.model.moe.experts = 4, o.model.moe.top_k = 2, o.model.moe.size = o.model.intermediate_size;
    expect_equal_runs(o, 4);
  }
}

TEST(DistributedOptimizer, AdaptersHaveTheBitsOfWholeUpdates) {
  const TemporaryFolder folder;
  TrainOptions base = run_of("adam", DType::kF32);
  base.train_iters = 1, base.save = folder.path + "/base";
  ASSERT_EQ(run_rank(base, nullptr).error, "");
  for (const char* optimizer : {"adam", "muon"}) {
    SCOPED_TRACE(optimizer);
    TrainOptions o = run_of(optimizer, DType::kBF16);
    o.init_from = base.save;
    o.lora = LoraSpec{{"linear_qkv", "down_proj"}, 4, 8, 0, false, "xavier", "zero"};
    expect_equal_runs(o, 3);
  }
}

// Saved by any number of ranks, with shares or not, read by any other.
TEST(DistributedOptimizer, ResumesOnAnyNumberOfRanksToTheSameBits) {
  for (const char* optimizer : {"adam", "adamw8bit", "muon"})
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(std::string(optimizer) + " " + std::string(name(compute)));
      const TemporaryFolder folder;
      TrainOptions o = run_of(optimizer, compute, true);
      o.save = folder.path + "/c", o.exit_interval = 3;
      for (const RankRun& rank : run_ranks(o, 4)) ASSERT_EQ(rank.error, "");
      o.load = o.save, o.save.clear(), o.exit_interval = 0;
      for (const int ranks : {2, 3}) {
        const std::vector<RankRun> shares = run_ranks(o, ranks);
        o.distributed_optimizer = false;
        const std::vector<RankRun> whole = run_ranks(o, ranks);
        o.distributed_optimizer = true;
        ASSERT_EQ(shares[0].error + whole[0].error, "");
        EXPECT_EQ(shares[0].result.iteration, 6);
        EXPECT_EQ(without_times(shares[0].log), without_times(whole[0].log));
        EXPECT_EQ(testing::kept_by(shares), whole[0].kept);
      }
      const RankRun alone = run_rank(o, nullptr);
      o.distributed_optimizer = false;
      EXPECT_EQ(alone.kept, run_rank(o, nullptr).kept);
    }
}

TEST(DistributedOptimizer, IsTheSameOverProcessesConnections) {
  const TrainOptions o = run_of("adam", DType::kBF16, true);
  const std::vector<RankRun> threads = run_ranks(o, 3);
  const std::vector<RankRun> tcp = run_ranks(std::vector(3, o), testing::tcp_groups(3));
  for (size_t r = 0; r < 3; ++r) {
    ASSERT_EQ(tcp[r].error, "");
    EXPECT_EQ(tcp[r].kept, threads[r].kept);
    EXPECT_EQ(tcp[r].weights, threads[r].weights);
  }
}

TEST(DistributedOptimizer, OnASharedGpuHasTheBitsOfWholeUpdates) {
  FLAGSCALE_NEED_GPU();
  for (const DType compute : {DType::kF32, DType::kBF16})
    for (const int ranks : {2, 3}) {
      SCOPED_TRACE(std::string(name(compute)) + " " + std::to_string(ranks));
      TrainOptions o = run_of("adam", compute);
      o.device = DeviceKind::kCuda;
      expect_equal_runs(o, ranks);
    }
}

TEST(DistributedOptimizer, AloneTheKeyChangesNothing) {
  const RankRun with = run_rank(run_of("adam", DType::kBF16, true), nullptr),
                without = run_rank(run_of("adam", DType::kBF16), nullptr);
  EXPECT_EQ(with.kept, without.kept);
  EXPECT_EQ(with.weights, without.weights);
}

// A share of what there was, planned and taken.
TEST(DistributedOptimizer, TakesAShareOfTheMemory) {
  model::DecoderConfig c = testing::small_run().model;
  c.hidden_size = 256, c.intermediate_size = 704, c.num_layers = 6;
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    StepOptions options = testing::options_for(compute, 1, 16);
    const TrainStep whole(c, options);
    options.ranks = 4, options.distributed_optimizer = true;
    for (options.rank = 0; options.rank < 4; ++options.rank) {
      TrainStep step(c, options);
      const MemoryUse use = step.memory(), before = whole.memory();
      EXPECT_NEAR(static_cast<double>(use.optimizer), static_cast<double>(before.optimizer) / 4, 1024);
      EXPECT_EQ(use.gradients, before.gradients);
      const size_t elements = before.optimizer / 8;                                            // two moments
      const double master = compute == DType::kF32 ? 0 : 3.0 * static_cast<double>(elements);  // not held
      EXPECT_NEAR(static_cast<double>(before.weights - use.weights), master, 1024);
      const auto allocator = make_cpu_allocator();
      step.allocate(*allocator);
      EXPECT_EQ(allocator->peak(), step.bytes());
    }
  }
}

// Matrices that are updated whole make shares unequal, not much.
TEST(DistributedOptimizer, SharesOfWholeMatricesAreNearlyEqual) {
  model::DecoderConfig c = testing::small_run().model;
  c.hidden_size = 256, c.intermediate_size = 704, c.num_layers = 12;
  for (const char* optimizer : {"muon", "adafactor", "adamw8bit"}) {
    StepOptions options = testing::options_for(DType::kBF16, 1, 16);
    options.optimizer.name = optimizer;
    options.ranks = 4, options.distributed_optimizer = true;
    size_t least = SIZE_MAX, most = 0;
    for (options.rank = 0; options.rank < 4; ++options.rank) {
      const MemoryUse use = TrainStep(c, options).memory();
      least = std::min(least, use.weights), most = std::max(most, use.weights);
    }
    EXPECT_LT(static_cast<double>(most), 1.2 * static_cast<double>(least)) << optimizer;
  }
}

}  // namespace
}  // namespace flagscale::train
