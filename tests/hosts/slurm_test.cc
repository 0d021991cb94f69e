// The program on a real Slurm with two virtual hosts: trainings that are submitted, and ranks that srun
// starts. Where there is no Slurm (slurmctld, slurmd, slurm-client) this is skipped.

#include <gtest/gtest.h>

#include "launch/launcher/slurm_test_support.h"
#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

using Words = std::vector<std::string>;

class OnSlurm : public Workshop {
 protected:
  static void TearDownTestSuite() {
    slurm_.reset();
    Workshop::TearDownTestSuite();
  }
  void SetUp() override {
    if (!launch::has_slurm()) GTEST_SKIP() << "no Slurm here: apt-get install slurmctld slurmd slurm-client";
    if (!slurm_) slurm_ = std::make_unique<launch::TestSlurm>();
  }

  static Words words(const std::string& name, const Words& more = {}) {
    Words all = training(name, {"train.model.train_iters=5", "train.model.global_batch_size=4",
                                "train.model.micro_batch_size=2", "train.system.logging.log_interval=1"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  static inline std::unique_ptr<launch::TestSlurm> slurm_;
};

TEST_F(OnSlurm, ATrainingIsSubmittedAndFollowed) {
  const Result here = must(words("here"));
  const Result there = run(words("there", {"++experiment.runner.type=slurm"}), folder_);
  ASSERT_EQ(there.code, 0) << there.err;
  EXPECT_EQ(losses(there.out), losses(here.out)) << there.out;
  EXPECT_EQ(losses(there.out).size(), 5u);
  EXPECT_NE(there.err.find(": COMPLETED"), std::string::npos) << there.err;
}

TEST_F(OnSlurm, AFailureHasItsExitCode) {
  const Result result =
      run(words("fails", {"++experiment.runner.type=slurm", "train.model.num_layers=0"}), folder_);
  EXPECT_EQ(result.code, 2) << result.out << result.err;
  EXPECT_NE(result.err.find("FAILED"), std::string::npos) << result.err;
}

TEST_F(OnSlurm, RanksOfSrunTrainAsOne) {
  const Result alone = must(words("alone"));
  Words command = {"srun", "--quiet", "--nodes=2", "--ntasks-per-node=1",
                   "--export=ALL,MASTER_ADDR=127.0.0.1"};
  const Words mine = program(words("together"));
  command.insert(command.end(), mine.begin(), mine.end());
  Child srun(command, Setting{.folder = folder_});
  const Result together = srun.wait();
  ASSERT_EQ(together.code, 0) << together.err;
  const auto expected = losses(alone.out), found = losses(together.out);
  ASSERT_EQ(found.size(), 5u) << together.out;
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(found[i], expected[i], 2e-6 * expected[i]);
  EXPECT_NE(together.err.find("2 ranks have met"), std::string::npos) << together.err;
}

}  // namespace
}  // namespace flagscale::e2e
