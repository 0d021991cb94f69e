// Several processes that train one model, started as torchrun starts them.

#include <csignal>
#include <memory>
#include <thread>

#include "comm/tcp/socket.h"
#include "device/cuda/cuda.h"
#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class Ranks : public Workshop {
 protected:
  static Words words(const std::string& name, int iterations, const std::string& device = "cpu") {
    return training(
        name, {"train.model.train_iters=" + std::to_string(iterations), "train.model.global_batch_size=4",
               "train.model.micro_batch_size=2", "train.system.logging.log_interval=1", "--device", device});
  }

  static std::vector<std::unique_ptr<Child>> start(const Words& words, int ranks = 2,
                                                   const Words& environment = {}) {
    const std::string port = std::to_string(comm::listen_on(0).local_port());
    std::vector<std::unique_ptr<Child>> children;
    for (int r = 0; r < ranks; ++r) {
      const std::string rank = std::to_string(r), size = std::to_string(ranks);
      Words all{"RANK=" + rank,          "LOCAL_RANK=" + rank,
                "WORLD_SIZE=" + size,    "LOCAL_WORLD_SIZE=" + size,
                "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port};
      all.insert(all.end(), environment.begin(), environment.end());
      children.push_back(
          std::make_unique<Child>(program(words), Setting{.folder = folder_, .environment = all}));
    }
    return children;
  }
};

TEST_F(Ranks, TrainAsOne) {
  const Result one = must(words("one", 5));
  const auto children = start(words("two", 5));
  const Result rank_1 = children[1]->wait(), rank_0 = children[0]->wait();
  ASSERT_EQ(rank_0.code, 0) << rank_0.err;
  ASSERT_EQ(rank_1.code, 0) << rank_1.err;
  const auto alone = losses(one.out), together = losses(rank_0.out);
  ASSERT_EQ(alone.size(), 5u) << one.out;
  ASSERT_EQ(together.size(), 5u) << rank_0.out;
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(together[i], alone[i], 2e-6 * alone[i]);
  EXPECT_EQ(rank_1.out, "");
  EXPECT_EQ(rank_1.err, "");
}

#define FLAGSCALE_NEED_TWO_GPUS()                      \
  if (!cuda::built() || cuda::found().gpus.size() < 2) \
  GTEST_SKIP() << "not run: this machine has no two GPUs, or this program no kernels for them"

// On two by NCCL while gradients are formed, in several pieces; on one that both share in main memory; with
// and without shares of the optimizer.
TEST_F(Ranks, OnTwoGpusAddAsOnOne) {
  FLAGSCALE_NEED_TWO_GPUS();
  for (const char* bf16 : {"false", "true"}) {
    SCOPED_TRACE(bf16);
    const auto train = [&](const std::string& name, const Words& environment, bool shares = false) {
      Words command = words(name + bf16, 5, "cuda");
      for (const char* more : {"train.model.num_layers=8", "train.model.hidden_size=512",
                               "train.model.ffn_hidden_size=1408", "train.model.global_batch_size=8"})
        command.push_back(more);
      command.push_back(std::string("++train.system.precision.bf16=") + bf16);
      command.push_back(std::string("++train.system.use_distributed_optimizer=") +
                        (shares ? "true" : "false"));
      const auto children = start(command, 2, environment);
      const Result rank_1 = children[1]->wait(), rank_0 = children[0]->wait();
      EXPECT_EQ(rank_0.code, 0) << rank_0.err;
      EXPECT_EQ(rank_1.code, 0) << rank_1.err;
      return rank_0;
    };
    const Result apart = train("apart", {}), shared = train("shared", {"CUDA_VISIBLE_DEVICES=0"});
    EXPECT_EQ(apart.err.find("in main memory"), std::string::npos) << apart.err;
    EXPECT_NE(shared.err.find("in main memory"), std::string::npos) << shared.err;
    EXPECT_EQ(losses(apart.out), losses(shared.out));
    const std::string shard = std::string(bf16) + "/checkpoints/iter_0000005/rank_00000_00000.safetensors";
    EXPECT_FALSE(contents("apart" + shard).empty());
    EXPECT_EQ(contents("apart" + shard), contents("shared" + shard));
    const Result apart_in_shares = train("apart in shares", {}, true);
    EXPECT_EQ(apart_in_shares.err.find("in main memory"), std::string::npos) << apart_in_shares.err;
    EXPECT_EQ(losses(apart_in_shares.out), losses(apart.out));
    EXPECT_EQ(contents("apart in shares" + shard), contents("apart" + shard));
    train("shared in shares", {"CUDA_VISIBLE_DEVICES=0"}, true);
    EXPECT_EQ(contents("shared in shares" + shard), contents("apart" + shard));
  }
}

// Whether they are being joined, add for the first time or are far on.
TEST_F(Ranks, OnTwoGpusTheDeathOfOneEndsTheOther) {
  FLAGSCALE_NEED_TWO_GPUS();
  for (const char* shares : {"false", "true"})
    for (const int ms : {0, 500, 1500, 3000}) {
      SCOPED_TRACE(ms);
      const std::string folder = std::string("gone ") + shares + std::to_string(ms);
      Words command = words(folder, 1000000, "cuda");
      command.push_back(std::string("++train.system.use_distributed_optimizer=") + shares);
      const auto children = start(command);
      while (children[0]->running() && !fs::exists(folder_ / folder))
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      std::this_thread::sleep_for(std::chrono::milliseconds(ms));
      children[1]->signal(SIGKILL);
      const Result rank_0 = children[0]->wait();
      EXPECT_EQ(rank_0.code, 1);
      EXPECT_NE(rank_0.err.find("rank 1"), std::string::npos) << rank_0.err;
    }
}

TEST_F(Ranks, TheDeathOfOneEndsTheOtherByName) {
  const auto children = start(words("death", 100000));
  while (children[0]->running() && !fs::exists(folder_ / "death"))
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  children[1]->signal(SIGKILL);
  const Result rank_0 = children[0]->wait();
  EXPECT_EQ(rank_0.code, 1);
  EXPECT_NE(rank_0.err.find("rank 1 on 127.0.0.1 is gone"), std::string::npos) << rank_0.err;
}

TEST_F(Ranks, CtrlCAtOneSavesAndStopsBoth) {
  const Words command = words("stop", 100000);
  for (const size_t rank : {size_t{1}, size_t{0}}) {
    const auto children = start(command);
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    children[rank]->signal(SIGINT);
    const Result rank_0 = children[0]->wait(), rank_1 = children[1]->wait();
    EXPECT_EQ(rank_0.code, 130) << rank_0.err;
    EXPECT_EQ(rank_1.code, 130) << rank_1.err;
    EXPECT_NE(rank_0.err.find("which is saved"), std::string::npos) << rank_0.err;
  }
  must({"checkpoint", "verify", "stop/checkpoints"});
}

// As `flagscale run` starts them; killed, all start again from the last checkpoint, with the same bits. With
// shares of the optimizer too.
TEST_F(Ranks, AreStartedAndRestartedByTheProgramItself) {
  const auto launched = [](const std::string& name, const std::string& shares) {
    Words command = words(name, 40);
    for (const char* more : {"++experiment.runner.nproc_per_node=2", "++experiment.runner.max_restarts=3",
                             "++train.system.checkpoint.save_interval=5"})
      command.push_back(more);
    command.push_back("++train.system.use_distributed_optimizer=" + shares);
    return command;
  };
  const std::string shard = "/checkpoints/iter_0000040/rank_00000_00000.safetensors";
  must(launched("whole", "false"));
  for (const char* shares : {"false", "true"}) {
    SCOPED_TRACE(shares);
    const std::string killed = std::string("killed_") + shares;
    Child child(program(launched(killed, shares)), {.folder = folder_});
    const fs::path pid = folder_ / killed / "logs/pids/host_1_localhost.pid";
    while (child.running() && !fs::exists(folder_ / killed / "checkpoints/iter_0000005"))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const int rank_1 = std::atoi(contents(pid).c_str());
    ASSERT_GT(rank_1, 1);
    kill(rank_1, SIGKILL);
    const Result result = child.wait();
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find("rank 1 on localhost"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("starting again from the last checkpoint (1 of 3 restarts)"), std::string::npos)
        << result.err;
    EXPECT_EQ(contents(killed + shard), contents("whole" + shard));
  }
}

// A rank that is stopped in the middle of a step: reported, and with --on-hang restart ended and started
// again.
TEST_F(Ranks, ThatHangAreStartedAgainWhereThatIsAskedFor) {
  Words command = words("hangs", 100000);
  for (const char* more : {"++experiment.runner.nproc_per_node=2", "++experiment.runner.max_restarts=1",
                           "++experiment.supervision.limits.step=2", "--on-hang", "restart"})
    command.push_back(more);
  Child child(program(command), {.folder = folder_});
  const fs::path pid = folder_ / "hangs/logs/pids/host_1_localhost.pid";
  const auto step = [] { return contents("hangs/logs/host_0_localhost.output").find("iteration"); };
  while (child.running() && step() == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const int rank_1 = std::atoi(contents(pid).c_str());
  ASSERT_GT(rank_1, 1);
  kill(rank_1, SIGSTOP);
  for (int now = rank_1; child.running() && (now == 0 || now == rank_1);
       now = std::atoi(contents(pid).c_str()))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // 0: between the two it has no file
  child.signal(SIGINT);
  const Result result = child.wait();
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_NE(result.err.find("every rank's stack is in"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("starting again from the last checkpoint (1 of 1 restarts)"), std::string::npos)
      << result.err;
}

TEST_F(Ranks, AnAgentThatNobodyGivesOrdersSaysItIsThereAndEnds) {
  const Result result = run({"agent", "-"}, folder_);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("\"boot\""), std::string::npos) << result.out;
}

// --engine is the command's word; a rank of ours is not the YAML's engine.
TEST_F(Ranks, RunTheEngineThatTheCommandNames) {
  Words command = words("engine", 2);
  command.insert(command.end(), {"++experiment.runner.nproc_per_node=2", "++experiment.task.engine=megatron",
                                 "--engine", "native"});
  const Result result = run(command, folder_);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "engine/checkpoints/iter_0000002")) << result.err;
}

TEST_F(Ranks, HalfSetVariablesAreRefused) {
  const Result result =
      Child(program(words("half", 2)), {.folder = folder_, .environment = {"RANK=0"}}).wait();
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("WORLD_SIZE"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace flagscale::e2e
