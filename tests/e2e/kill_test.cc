// A training that is killed at random moments, again and again, ends as one that never was: the same weights,
// moments and training state to the bit, the same log lines. FLAGSCALE_KILLS kills (ctest -L soak: many).

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"
#include "tests/e2e/small_training.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Folders that a save writes aside, by inode: an earlier kill's stay until the next whole save.
std::set<ino_t> set_aside(const fs::path& run) {
  std::set<ino_t> folders;
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator(run / "out/checkpoints", gone)) {
    struct stat status{};
    if (entry.path().extension() == ".tmp" && stat(entry.path().c_str(), &status) == 0)
      folders.insert(status.st_ino);
  }
  return folders;
}

bool saving(const fs::path& run, const std::set<ino_t>& before) {
  const std::set<ino_t> now = set_aside(run);
  return !std::includes(before.begin(), before.end(), now.begin(), now.end());
}

class Kill : public testing::Test {
 protected:
  void SetUp() override { write_small_training(folder_, "kill"); }

  std::vector<std::string> words(bool bf16, bool async) const {
    return program(
        {"run", "--config-path", folder_, "--config-name", "kill",
         bf16 ? "train.system.precision.bf16=true" : "train.system.precision.bf16=false",
         async ? "train.system.checkpoint.async_save=true" : "train.system.checkpoint.async_save=false"});
  }
  fs::path fresh(const std::string& name) const {
    fs::remove_all(folder_ / name);
    fs::create_directory(folder_ / name);
    return folder_ / name;
  }
  static Setting in(const fs::path& run) {
    return {.folder = run, .environment = {"FLAGSCALE_THREADS=2", "XDG_STATE_HOME=" + run.string()}};
  }

  // Kills at a moment of `whole`, every other time one during a save; returns what the run printed.
  Result cut_short(const std::vector<std::string>& command, const fs::path& run,
                   std::chrono::microseconds whole) {
    const std::set<ino_t> before = set_aside(run);
    Child child(command, in(run));
    const auto moment =
        std::chrono::microseconds(std::uniform_int_distribution<int64_t>(0, whole.count())(random_));
    if (++cuts_ % 2) {
      std::this_thread::sleep_for(moment / 2);
      while (child.running() && !saving(run, before)) std::this_thread::yield();
      std::this_thread::sleep_for(moment / 500);
    } else {
      std::this_thread::sleep_for(moment);
    }
    child.signal(SIGKILL);
    const Result result = child.wait();
    during_saves_ += saving(run, before);
    return result;
  }

  // One training, killed until it is done. Returns the kills.
  int train_through_kills(bool bf16, bool async, const Result& whole, std::chrono::microseconds took) {
    const fs::path run = fresh("killed");
    const std::vector<std::string> expected = log_lines(whole.out);
    std::vector<std::string> seen;
    int kills = 0;
    for (Result part; part.code != 0; ++kills) {
      part = cut_short(words(bf16, async), run, took / 3);
      EXPECT_TRUE(part.code == 0 || part.code == 128 + SIGKILL) << part.err;
      if (part.code == 1 || part.code == 2) break;
      for (const std::string& line : log_lines(part.out)) {
        EXPECT_TRUE(std::count(expected.begin(), expected.end(), line))
            << "not a line of the whole run: " << line;
        seen.push_back(line);
      }
      if (kills > 500) return ADD_FAILURE() << "it never gets on", kills;
    }
    for (const std::string& line : expected)
      EXPECT_TRUE(std::count(seen.begin(), seen.end(), line)) << "missing: " << line;
    return kills - 1;
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path;
  std::mt19937 random_{std::random_device{}()};
  int cuts_ = 0, during_saves_ = 0;
};

TEST_F(Kill, AtRandomMomentsLeavesTheSameRun) {
  const char* wanted = std::getenv("FLAGSCALE_KILLS");
  const int enough = wanted ? std::atoi(wanted) : 8;
  int kills = 0;
  for (int round = 0; kills < enough || round < 2; ++round) {
    const bool bf16 = round % 4 >= 2, async = round % 2 == 0;
    SCOPED_TRACE(std::string(bf16 ? "bf16" : "fp32") + (async ? ", saved aside" : ", saved in turn"));
    const fs::path whole_run = fresh("whole");
    const auto start = Clock::now();
    const Result whole = Child(words(bf16, async), in(whole_run)).wait();
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
    ASSERT_EQ(whole.code, 0) << whole.err;
    ASSERT_GT(log_lines(whole.out).size(), 20u) << whole.out;
    kills += train_through_kills(bf16, async, whole, took);
    const auto expected = newest_checkpoint(whole_run), got = newest_checkpoint(folder_ / "killed");
    ASSERT_EQ(expected.size(), got.size());
    for (const auto& [name, bytes] : expected)
      EXPECT_TRUE(got.contains(name) && got.at(name) == bytes) << name << " differs";
    if (HasFailure()) break;
  }
  RecordProperty("kills", kills);
  RecordProperty("during a save", during_saves_);
  std::printf("%d kills, %d of them while a checkpoint was being written\n", kills, during_saves_);
  EXPECT_GE(kills, enough);
  EXPECT_GT(during_saves_, 0);
}

}  // namespace
}  // namespace flagscale::e2e
