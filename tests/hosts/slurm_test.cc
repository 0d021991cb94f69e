// The program on a real Slurm with two virtual hosts: trainings that are submitted, and ranks that srun
// starts. Where there is no Slurm (slurmctld, slurmd, slurm-client) this is skipped.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "launch/agent/process.h"
#include "launch/launcher/slurm_test_support.h"
#include "launch/run/control.h"
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

// From where it was handed in, while it waits and while it runs.
TEST_F(OnSlurm, ASubmittedTrainingIsAskedForAndStopped) {
  setenv("XDG_STATE_HOME", (folder_ / "state").c_str(), 1);
  const Words training =
      words("behind", {"++experiment.runner.type=slurm", "train.model.train_iters=100000"});
  const auto with = [&](Words more) {
    more.insert(more.begin(), training.begin(), training.end());
    return must(more).out;
  };
  with({"--detach"});
  std::string said;
  for (int i = 0; i < 300 && said.find("save") == said.npos && said.find("step") == said.npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    said = with({"action=query"});
  }
  EXPECT_NE(said.find("RUNNING on n"), said.npos) << said;
  EXPECT_NE(with({"action=query", "--json"}).find(R"("state":"running")"), said.npos);
  EXPECT_NE(must({"logs", "behind", "-n", "1"}).out, "");
  const std::string stopped = must({"stop", "behind"}).out;
  EXPECT_EQ(stopped.find("aquila: slurm job "), 0u) << stopped;
  EXPECT_NE(stopped.find("aquila stopped (exit code 143)"), stopped.npos) << stopped;

  with({"--detach", "++experiment.runner.nnodes=2", "++experiment.runner.slurm.arguments=[--hold]"});
  EXPECT_NE(with({"action=query"}).find("PENDING"), said.npos);
  EXPECT_NE(must({"ps"}).out.find("waiting"), said.npos);
  EXPECT_NE(with({"action=stop"}).find("CANCELLED"), said.npos);
}

TEST_F(OnSlurm, AFailureHasItsExitCode) {
  const Result result =
      run(words("fails", {"++experiment.runner.type=slurm", "train.model.num_layers=0"}), folder_);
  EXPECT_EQ(result.code, 2) << result.out << result.err;
  EXPECT_NE(result.err.find("FAILED"), std::string::npos) << result.err;
}

// nnodes as MIN:MAX, inside of an allocation of two hosts: a rank's agent is killed on the way, and both go
// on.
TEST_F(OnSlurm, AnElasticTrainingStartsOnTheHostsOfItsAllocationAndAgain) {
  Words command = {"salloc", "--quiet", "-N2"};
  const Words mine = program(training(
      "elastic", {"++experiment.runner.type=slurm", "++experiment.runner.nnodes=1:2",
                  "++experiment.runner.elastic_wait=20", "++experiment.runner.max_restarts=1",
                  "++experiment.runner.master_addr=127.0.0.1", "train.model.train_iters=60",
                  "train.model.global_batch_size=4", "train.model.micro_batch_size=2",
                  "train.system.logging.log_interval=1", "train.system.checkpoint.save_interval=5"}));
  command.insert(command.end(), mine.begin(), mine.end());
  Child child(command, Setting{.folder = folder_});
  while (child.running() && !std::filesystem::exists(folder_ / "elastic/checkpoints/iter_0000005"))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  for (const launch::RankStatus& rank : launch::query_job(folder_ / "elastic").ranks)
    if (rank.host == "n2") launch::send_signal(rank.agent, SIGKILL);
  const Result result = child.wait();
  ASSERT_EQ(result.code, 0) << result.out << result.err;
  const std::string said = result.out + result.err;
  for (const char* part : {"2 ranks have met", "rank 1 on n2 is cut off",
                           "starting again from the last checkpoint (1 of 1 restarts)"})
    EXPECT_NE(said.find(part), std::string::npos) << part << said;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "elastic/checkpoints/iter_0000060"));
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
