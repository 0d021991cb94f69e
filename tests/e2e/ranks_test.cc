// Several processes that train one model, started as torchrun starts them.

#include <csignal>
#include <memory>
#include <thread>

#include "device/cuda/cuda.h"
#include "launch/placement.h"
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
    const std::string port = std::to_string(launch::free_port());
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

  // Two ranks, and what is known of them while they run: a hang is seen where it is, and ends by itself.
  class Pair {
   public:
    Pair(std::string what, std::vector<std::unique_ptr<Child>> ranks)
        : what_(std::move(what)), ranks_(std::move(ranks)) {}

    Child& rank(size_t r) { return *ranks_[r]; }
    // Until rank 0 has printed so many iterations; false where it does not.
    bool reaches(size_t iterations) {
      const auto until = Clock::now() + kLimit;
      while (losses(rank(0).said()).size() < iterations) {
        if (!rank(0).running() || Clock::now() > until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      return true;
    }
    Result end(size_t r) {
      const Result result = rank(r).wait(kLimit);
      const std::chrono::duration<double> took = Clock::now() - began_;
      std::printf("  %s: rank %zu ended with code %d, %.1f s after its start\n", what_.c_str(), r,
                  result.code, took.count());
      std::fflush(stdout);
      return result;
    }

   private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds kLimit{30};
    std::string what_;
    std::vector<std::unique_ptr<Child>> ranks_;
    Clock::time_point began_ = Clock::now();
  };
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

#define FLAGSCALE_NEED_GPUS(count)                         \
  if (!cuda::built() || cuda::found().gpus.size() < count) \
  GTEST_SKIP() << "not run: this machine has too few GPUs, or this program no kernels for them"

// Of ranks with GPUs: how they add, and where.
enum class Adding { kCopies, kNccl, kCopiesOnOne, kInMemoryOnOne };
class RanksOnGpus : public Ranks {
 protected:
  static Words environment(Adding adding) {
    Words words;
    if (adding == Adding::kCopiesOnOne || adding == Adding::kInMemoryOnOne)
      words.push_back("CUDA_VISIBLE_DEVICES=0");
    if (adding == Adding::kNccl || adding == Adding::kInMemoryOnOne) words.push_back("NCCL_P2P_DISABLE=1");
    return words;
  }

  // Three pieces of gradients; three steps of two micro-batches each. Losses and a checkpoint.
  std::pair<std::vector<double>, std::string> train(const std::string& name, bool bf16, Adding adding,
                                                    bool shares) {
    Words command = words(name, 3, "cuda");
    for (const char* more :
         {"train.model.num_layers=6", "train.model.hidden_size=512", "train.model.ffn_hidden_size=1408",
          "train.model.global_batch_size=8", "train.model.eval_iters=0"})
      command.push_back(more);
    command.push_back(std::string("++train.system.precision.bf16=") + (bf16 ? "true" : "false"));
    command.push_back(std::string("++train.system.use_distributed_optimizer=") + (shares ? "true" : "false"));
    Pair pair(name, start(command, 2, environment(adding)));
    const Result rank_1 = pair.end(1), rank_0 = pair.end(0);
    EXPECT_EQ(rank_0.code, 0) << name << rank_0.err;
    EXPECT_EQ(rank_1.code, 0) << name << rank_1.err;
    EXPECT_EQ(rank_0.err.find("in main memory") != std::string::npos, adding == Adding::kInMemoryOnOne)
        << name << rank_0.err;
    EXPECT_EQ(rank_0.err.find("by NCCL") != std::string::npos, adding == Adding::kNccl) << name << rank_0.err;
    EXPECT_EQ(losses(rank_0.out).size(), 3u) << name << rank_0.out;
    return {losses(rank_0.out), contents(name + "/checkpoints/iter_0000003/rank_00000_00000.safetensors")};
  }

  static constexpr int kFarOn = -1;
  void kill_one(const std::string& name, int after_ms, Adding adding, bool shares) {
    SCOPED_TRACE(name);
    Words command = words(name, 1000000, "cuda");
    command.push_back(std::string("++train.system.use_distributed_optimizer=") + (shares ? "true" : "false"));
    Pair pair(name, start(command, 2, environment(adding)));
    if (after_ms == kFarOn) {
      EXPECT_TRUE(pair.reaches(20)) << pair.rank(0).said();
    } else {
      while (pair.rank(0).running() && !fs::exists(folder_ / name))
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      std::this_thread::sleep_for(std::chrono::milliseconds(after_ms));
    }
    pair.rank(1).signal(SIGKILL);
    const Result rank_0 = pair.end(0);
    EXPECT_EQ(rank_0.code, 1);
    EXPECT_NE(rank_0.err.find("rank 1"), std::string::npos) << rank_0.err;
  }
};

// Not EXPECT_EQ: nobody reads megabytes of a checkpoint.
TEST_F(RanksOnGpus, OnOneGpuCopiesAddAsMainMemoryDoes) {
  FLAGSCALE_NEED_GPUS(1);
  const auto first = train("bf16 in memory", true, Adding::kInMemoryOnOne, false);
  EXPECT_FALSE(first.second.empty());
  EXPECT_TRUE(train("bf16 by copies", true, Adding::kCopiesOnOne, false) == first);
  EXPECT_TRUE(train("bf16 by copies in shares", true, Adding::kCopiesOnOne, true) == first);
}

TEST_F(RanksOnGpus, OnTwoGpusAddAsOnOne) {
  FLAGSCALE_NEED_GPUS(2);
  const auto first = train("bf16 by copies", true, Adding::kCopies, false);
  EXPECT_FALSE(first.second.empty());
  EXPECT_TRUE(train("bf16 in memory", true, Adding::kInMemoryOnOne, false) == first);
  EXPECT_TRUE(train("bf16 by copies in shares", true, Adding::kCopies, true) == first);
  EXPECT_TRUE(train("bf16 by NCCL", true, Adding::kNccl, false) == first);
  EXPECT_TRUE(train("bf16 by NCCL in shares", true, Adding::kNccl, true) == first);
  EXPECT_TRUE(train("fp32 by copies", false, Adding::kCopies, false) ==
              train("fp32 in memory in shares", false, Adding::kInMemoryOnOne, true));
}

// Whether they are being joined, add for the first time or are far on.
TEST_F(RanksOnGpus, OnTwoGpusTheDeathOfOneEndsTheOther) {
  FLAGSCALE_NEED_GPUS(2);
  for (const Adding adding : {Adding::kCopies, Adding::kNccl}) {
    const std::string how = adding == Adding::kNccl ? "NCCL " : "copies ";
    kill_one(how + "at once", 0, adding, false);
    kill_one(how + "after 500 ms", 500, adding, true);
    kill_one(how + "after 1000 ms", 1000, adding, false);
    kill_one(how + "far on", kFarOn, adding, false);
    kill_one(how + "far on in shares", kFarOn, adding, true);
  }
}

TEST_F(RanksOnGpus, OnOneGpuTheDeathOfOneEndsTheOther) {
  FLAGSCALE_NEED_GPUS(1);
  kill_one("after 700 ms", 700, Adding::kCopiesOnOne, false);
  kill_one("far on", kFarOn, Adding::kCopiesOnOne, false);
  kill_one("far on in shares", kFarOn, Adding::kCopiesOnOne, true);
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

TEST_F(Ranks, ThatTakeTooLongForATestTellWhereTheyAre) {
  Child child(program(words("endless", 1000000)), {.folder = folder_});
  const Result result = child.wait(std::chrono::seconds(1));
  EXPECT_EQ(result.code, 128 + SIGKILL);
  EXPECT_NE(result.err.find("stack of thread"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("had not ended after 1 s"), std::string::npos) << result.err;
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
