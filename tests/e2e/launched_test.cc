// A training of four ranks under a launcher: ranks, agents and launchers killed at random moments, and it
// ends with the same bits as one that was left alone. FLAGSCALE_KILLS kills (ctest -L soak: 100).

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "launch/placement.h"
#include "launch/record/run_status.h"
#include "launch/run/control.h"
#include "launch/run/run_job.h"
#include "tests/e2e/program.h"
#include "tests/e2e/small_training.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using launch::RunState;
using launch::RunStatus;

class Launched : public testing::Test {
 protected:
  void SetUp() override {
    setenv("XDG_STATE_HOME", (folder_ / "state").c_str(), 1);
    write_small_training(folder_, "small");
  }

  fs::path fresh(const std::string& name) const {
    fs::remove_all(folder_ / name);
    fs::create_directory(folder_ / name);
    return folder_ / name;
  }

  // As `flagscale run` starts them. What a rank has is a fourth of each global batch.
  launch::Job job(const fs::path& run) const {
    launch::Job job;
    job.name = "small", job.task = "train", job.engine = "native";
    job.experiment = run / "out", job.log = run / "out/logs";
    job.max_restarts = 3;
    const std::string port = std::to_string(launch::free_port());
    for (int r = 0; r < kRanks; ++r) {
      launch::NodeTask& node = job.nodes.emplace_back();
      const std::string rank = std::to_string(r), size = std::to_string(kRanks);
      node.rank = r;
      node.host.name = "localhost";
      node.command.argv =
          program({"train", "aquila", folder_ / "small.yaml", "train.model.global_batch_size=8",
                   "train.model.rampup_batch_size=[4,4,24]", "train.model.train_samples=120"});
      node.command.env = {{"FLAGSCALE_THREADS", "1"}, {"RANK", rank},
                          {"LOCAL_RANK", rank},       {"WORLD_SIZE", size},
                          {"LOCAL_WORLD_SIZE", size}, {"MASTER_ADDR", "localhost"},
                          {"MASTER_PORT", port}};
      node.command.directory = run;
      node.output = job.log / ("host_" + rank + "_localhost.output");
    }
    return job;
  }

  // run_job() in a process of its own; what it says is in the file `launcher`.
  static pid_t launch_job(const launch::Job& job) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    const int said =
        open((job.experiment.parent_path() / "launcher").c_str(), O_RDWR | O_CREAT | O_APPEND, 0644);
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(said, standard);
    int code = 99;
    try {
      code = launch::run_job(job, {});
    } catch (const std::exception& error) {  // which must not reach the test's own folder
      dprintf(STDERR_FILENO, "%s\n", error.what());
    }
    _exit(code);
  }

  // The exit code, or 128 + signal; none if it still runs.
  static std::optional<int> ended(pid_t launcher) {
    int status = 0;
    if (waitpid(launcher, &status, WNOHANG) != launcher) return {};
    return launch::exit_status(status).code;
  }
  static int wait_for(pid_t launcher) {
    int status = 0;
    waitpid(launcher, &status, 0);
    return launch::exit_status(status).code;
  }

  static std::string said(const fs::path& run) {
    std::ifstream in(run / "launcher");
    return {std::istreambuf_iterator<char>(in), {}};
  }

  static RunStatus status_of(const fs::path& run) {
    try {
      return launch::query_job(run / "out");
    } catch (const Error&) {  // not begun yet
      return {};
    }
  }

  std::chrono::microseconds moment(std::chrono::microseconds within) {
    return std::chrono::microseconds(std::uniform_int_distribution<int64_t>(0, within.count())(random_));
  }

  // What an undisturbed run leaves, and how long it takes.
  std::map<std::string, std::string> undisturbed() {
    const fs::path run = fresh("whole");
    const auto start = Clock::now();
    const int code = wait_for(launch_job(job(run)));
    took_ = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
    EXPECT_EQ(code, 0) << said(run);
    return newest_checkpoint(run);
  }

  static void expect_same_bits(const std::map<std::string, std::string>& expected,
                               const std::map<std::string, std::string>& got) {
    EXPECT_EQ(expected.size(), got.size());
    for (const auto& [name, bytes] : expected)
      EXPECT_TRUE(got.contains(name) && got.at(name) == bytes) << name << " differs";
  }

  static bool anything_left(const RunStatus& run) {
    for (const launch::RankStatus& rank : run.ranks)
      if (runs(rank.agent) || runs(rank.process)) return true;
    return false;
  }

  // Until the launcher has started all ranks again, or has ended.
  static bool starts_again(const fs::path& run, int restarts, pid_t launcher, std::optional<int>& code) {
    while (!(code = ended(launcher))) {
      const RunStatus status = status_of(run);
      if (status.restarts > restarts && status.state != RunState::kRestarting) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

  static double time_until_all_is_gone(const fs::path& run) {
    const RunStatus status = status_of(run);
    const auto start = Clock::now();
    const auto waited = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    while (anything_left(status) && waited() < 20) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return waited();
  }

  static int wanted_kills(int otherwise) {
    const char* wanted = std::getenv("FLAGSCALE_KILLS");
    return wanted ? std::atoi(wanted) : otherwise;
  }

  static constexpr int kRanks = 4;
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path;
  std::mt19937 random_{std::random_device{}()};
  std::chrono::microseconds took_{};
};

// Each kill is one of a rank or an agent of a job that runs, or is being started again.
TEST_F(Launched, KilledRanksAndAgentsLeaveTheSameBits) {
  const auto expected = undisturbed();
  const int enough = wanted_kills(6);
  int kills = 0, agents = 0, jobs = 0, unnamed = 0;
  while (kills < enough && !HasFailure()) {
    ++jobs;
    const fs::path run = fresh("killed");
    const pid_t launcher = launch_job(job(run));
    std::optional<int> code;
    std::string killed;
    for (int here = 0; here < 3 && !(code = ended(launcher));) {
      std::this_thread::sleep_for(moment(took_ / 2));
      const RunStatus status = status_of(run);
      const size_t rank = std::uniform_int_distribution<size_t>(0, kRanks - 1)(random_);
      const bool agent = kills % 4 == 3;
      if (status.ranks.empty()) continue;
      if (!send_signal(agent ? status.ranks[rank].agent : status.ranks[rank].process, SIGKILL)) continue;
      ++kills, ++here, agents += agent;
      killed += " " + std::to_string(rank) + (agent ? " (agent)" : "");
      if (!starts_again(run, status.restarts, launcher, code)) break;
      const std::string culprit = status_of(run).culprit;
      if (culprit.starts_with("rank " + std::to_string(rank) + " on localhost")) continue;
      ++unnamed;
      std::printf("killed%s, and named was: %s\n", killed.c_str(), culprit.c_str());
    }
    while (!code && !(code = ended(launcher))) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const RunStatus status = status_of(run);
    SCOPED_TRACE("killed were the ranks" + killed);
    EXPECT_EQ(*code, 0) << said(run);
    EXPECT_EQ(status.state, RunState::kCompleted);
    EXPECT_FALSE(anything_left(status));
    expect_same_bits(expected, newest_checkpoint(run));
  }
  std::printf("%d kills, %d of them of agents, in %d jobs of %d ranks; %d times another rank was blamed\n",
              kills, agents, jobs, kRanks, unnamed);
  EXPECT_LE(unnamed, enough / 50) << "the rank that was killed is the culprit";
}

TEST_F(Launched, AKilledLauncherLeavesNothingAndTheSameCommandGoesOnToTheSameBits) {
  const auto expected = undisturbed();
  const int enough = std::max(wanted_kills(6) / 5, 3);
  int kills = 0;
  double longest = 0;
  while (kills < enough && !HasFailure()) {
    const fs::path run = fresh("killed");
    std::optional<int> code;
    for (int here = 0; !code;) {
      const pid_t launcher = launch_job(job(run));
      if (here == 3) {
        code = wait_for(launcher);
        continue;
      }
      std::this_thread::sleep_for(moment(took_));
      if ((code = ended(launcher))) continue;
      kill(launcher, SIGKILL);
      waitpid(launcher, nullptr, 0);
      ++kills, ++here;
      longest = std::max(longest, time_until_all_is_gone(run));
    }
    EXPECT_EQ(*code, 0) << said(run);
    expect_same_bits(expected, newest_checkpoint(run));
  }
  EXPECT_LT(longest, 10);
  std::printf("%d kills of the launcher; all was gone after %.2f s at most\n", kills, longest);
}

}  // namespace
}  // namespace flagscale::e2e
