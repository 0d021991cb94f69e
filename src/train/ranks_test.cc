// Data parallel: the same global batches on several ranks, against one.
#include "train/ranks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "io/checkpoint.h"
#include "train/parity_test_support.h"
#include "train/ranks_test_support.h"

namespace flagscale::train {
namespace {

using testing::files_below;
using testing::Groups;
using testing::RankRun;
using testing::run_printed;
using testing::run_rank;
using testing::run_ranks;
using testing::small_run;
using testing::tcp_groups;

// Of a host all of them, of two GPUs each its own; the last to look saw what the others' contexts take.
TEST(DataParallel, RanksShareTheMemoryOfOneOwner) {
  EXPECT_EQ(Ranks(nullptr).share_of(7, "a GPU"), 7u);
  EXPECT_EQ(Ranks(nullptr).share_of_host(7), 7u);
  const auto groups = comm::make_local_groups(3);
  std::vector<size_t> of_host(3), of_gpu(3);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < 3; ++r)
    threads.emplace_back([&, r] {
      const Ranks ranks(groups[r].get());
      of_host[r] = ranks.share_of_host(900 - r);
      of_gpu[r] = ranks.share_of(1000 - 2 * r, r == 1 ? "a GPU" : "another GPU");
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(of_host, std::vector<size_t>(3, 299));
  EXPECT_EQ(of_gpu, (std::vector<size_t>{498, 998, 498}));
}

TEST(DataParallel, EqualsOneRank) {
  const RankRun one = run_rank(small_run(), nullptr);
  ASSERT_EQ(one.error, "");
  for (const int ranks : {2, 3, 4}) {
    const std::vector<RankRun> ran = run_ranks(small_run(), ranks);
    for (const RankRun& rank : ran) {
      ASSERT_EQ(rank.error, "");
      EXPECT_EQ(rank.weights, ran[0].weights);
      EXPECT_EQ(rank.result.tokens.learnt, one.result.tokens.learnt);
      EXPECT_NEAR(*rank.result.validation_loss, *one.result.validation_loss,
                  2e-6 * *one.result.validation_loss);
    }
    EXPECT_LT(testing::difference(ran[0].weights, one.weights), 2e-6) << ranks;
    EXPECT_NEAR(*ran[0].result.lm_loss, *one.result.lm_loss, 2e-6 * *one.result.lm_loss);
    EXPECT_FALSE(ran[0].log.empty());
    EXPECT_EQ(ran[1].log, "");
  }
}

TEST(DataParallel, IsTheSameToTheBitOverAnyBackEnd) {
  const std::vector<RankRun> threads = run_ranks(small_run(), 3);
  const std::vector<RankRun> tcp = run_ranks(std::vector(3, small_run()), tcp_groups(3));
  for (size_t r = 0; r < 3; ++r) {
    ASSERT_EQ(tcp[r].error, "");
    EXPECT_EQ(tcp[r].weights, threads[r].weights);
    EXPECT_EQ(tcp[r].result.lm_loss, threads[r].result.lm_loss);
  }
}

TEST(DataParallel, RanksThatShareAGpuAreThoseOfThreads) {
  FLAGSCALE_NEED_GPU();
  TrainOptions o = small_run();
  o.device = DeviceKind::kCuda;
  const std::vector<RankRun> here = run_ranks(small_run(), 2), threads = run_ranks(o, 2);
  const std::vector<RankRun> tcp = run_ranks(std::vector(2, o), tcp_groups(2));
  for (size_t r = 0; r < 2; ++r) {
    ASSERT_EQ(threads[r].error + tcp[r].error, "");
    EXPECT_EQ(threads[r].weights, threads[0].weights);
    EXPECT_EQ(tcp[r].weights, threads[0].weights);
  }
  EXPECT_NEAR(*threads[0].result.lm_loss, *here[0].result.lm_loss, 1e-5 * *here[0].result.lm_loss);
}

// Rank 0 alone has the checkpoints: hosts need not share a file system for them.
TEST(DataParallel, ResumesToTheBitFromRankZerosCheckpoint) {
  const TemporaryFolder folder, empty;
  std::vector<TrainOptions> options(2, small_run());
  const std::vector<RankRun> whole = run_ranks(options, comm::make_local_groups(2));
  options[0].save = options[0].load = folder.path + "/c";
  options[1].save = options[1].load = empty.path + "/c";
  for (TrainOptions& o : options) o.save_interval = 2, o.exit_interval = 4;
  ASSERT_EQ(run_ranks(options, comm::make_local_groups(2))[0].result.iteration, 4);
  EXPECT_FALSE(std::filesystem::exists(empty.path + "/c"));
  for (TrainOptions& o : options) o.exit_interval = 0;
  const std::vector<RankRun> resumed = run_ranks(options, comm::make_local_groups(2));
  for (size_t r = 0; r < 2; ++r) {
    ASSERT_EQ(resumed[r].error, "");
    EXPECT_EQ(resumed[r].result.iteration, 6);
    EXPECT_EQ(resumed[r].weights, whole[r].weights);
  }
}

// Rank 0's place in a group, where its GPU fails when it is told so: then what waits for the GPU throws.
class OnFailingGpu final : public comm::ProcessGroup {
 public:
  explicit OnFailingGpu(comm::ProcessGroup& group) : group_(group) {}
  std::function<bool()> fails = [] { return false; };

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  void exchange(std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    if (fails()) fail(ErrorKind::kDevice, "[cuda] a kernel failed: CUDA_ERROR_ECC_UNCORRECTABLE");
    group_.exchange(send, receive);
  }
  void check_others() override { group_.check_others(); }
  void abort(const std::string& what) noexcept override { group_.abort(what); }

 private:
  comm::ProcessGroup& group_;
};

TEST(DataParallel, AGpuThatIsLostLeavesCheckpointsToGoOnFrom) {
  const TemporaryFolder folder;
  TrainOptions o = small_run();
  const std::vector<RankRun> whole = run_ranks(o, 2);
  o.save = o.load = folder.path + "/c", o.save_interval = 2;
  const auto expect_lost = [&](const std::function<bool()>& when, const std::string& way_on) {
    const Groups groups = comm::make_local_groups(2);
    RankRun other;
    std::thread thread([&] { other = run_rank(o, groups[1].get()); });
    const std::string told = "[cuda] a kernel failed: CUDA_ERROR_ECC_UNCORRECTABLE; " + way_on;
    try {
      OnFailingGpu group(*groups[0]);
      Trainer trainer(o, &group);
      group.fails = when;
      run_printed(trainer);
      ADD_FAILURE() << "it went on";
    } catch (const Error& error) {
      EXPECT_EQ(exit_code(error.kind()), 1);
      EXPECT_EQ(error.what(), told);
    }
    thread.join();
    EXPECT_NE(other.error.find(told), std::string::npos) << other.error;
  };
  const auto saved = [&] { return !io::newest_whole_checkpoint(o.save).empty(); };
  expect_lost([] { return true; }, "the run has saved no checkpoint yet");
  EXPECT_FALSE(saved());
  const std::string goes_on = "started again, the run goes on from its last checkpoint";
  expect_lost(saved, goes_on);
  const auto left = files_below(o.save);
  expect_lost([] { return true; }, goes_on);  // in the first step after that
  EXPECT_EQ(files_below(o.save), left);
  const io::Checkpoint checkpoint(o.save);
  EXPECT_EQ(checkpoint.state().iteration, 2);
  checkpoint.verify();
  const std::vector<RankRun> resumed = run_ranks(o, 2);
  for (size_t r = 0; r < 2; ++r) {
    ASSERT_EQ(resumed[r].error, "");
    EXPECT_EQ(resumed[r].weights, whole[r].weights);
  }
}

TEST(DataParallel, TokensWeighTheSameOnEveryRank) {
  TrainOptions o = small_run();
  o.per_token_loss = true;
  o.mask.eod_token = 5, o.mask.eod_mask_loss = true;
  const RankRun one = run_rank(o, nullptr);
  const std::vector<RankRun> ran = run_ranks(o, 2);
  ASSERT_EQ(ran[0].error, "");
  EXPECT_LT(testing::difference(ran[0].weights, one.weights), 2e-6);
}

TEST(DataParallel, ARankThatDiffersIsNamed) {
  std::vector<TrainOptions> options(3, small_run());
  options[2].config_text = "another";
  for (const RankRun& rank : run_ranks(options, comm::make_local_groups(3)))
    EXPECT_NE(rank.error.find("the ranks differ in what they train: rank 2 has"), std::string::npos)
        << rank.error;
}

TEST(DataParallel, AnErrorOfOneRankEndsTheOthers) {
  std::vector<TrainOptions> options(2, small_run());
  options[1].data.data_path = {"/nowhere/text_document"};
  const std::vector<RankRun> ran = run_ranks(options, comm::make_local_groups(2));
  EXPECT_NE(ran[0].error.find("rank 1: "), std::string::npos) << ran[0].error;
  EXPECT_NE(ran[0].error.find("/nowhere/text_document"), std::string::npos) << ran[0].error;
}

TEST(DataParallel, TheBatchMustDivide) {
  const std::vector<RankRun> ran = run_ranks(small_run(), 5);
  EXPECT_NE(ran[0].error.find("micro_batch_size 1 x 5 data-parallel ranks"), std::string::npos)
      << ran[0].error;
}

}  // namespace
}  // namespace flagscale::train
