// A training that is killed at random moments, again and again, ends as one that never was: the same weights,
// moments and training state to the bit, the same log lines. FLAGSCALE_KILLS kills (ctest -L soak: many).

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// All that a resumed run must find again: ramp-up, a schedule, spikes that are skipped, dropped data,
// evaluation.
constexpr const char* kConfiguration = R"(
experiment: {exp_name: kill, exp_dir: out, task: {type: train}}
train:
  system:
    precision: {bf16: false}
    logging: {log_interval: 1, log_params_norm: true, tensorboard_log_interval: 1}
    checkpoint: {save_interval: 1, keep_last: 2, async_save: true}
  model:
    num_layers: 2
    hidden_size: 64
    num_attention_heads: 4
    seq_length: 16
    max_position_embeddings: 16
    normalization: RMSNorm
    swiglu: true
    position_embedding_type: rope
    disable_bias_linear: true
    untie_embeddings_and_output_weights: true
    attention_dropout: 0.0
    hidden_dropout: 0.0
    train_samples: 90
    micro_batch_size: 1
    global_batch_size: 4
    rampup_batch_size: [1, 1, 20]
    lr: 3.0e-2
    lr_decay_style: WSD
    lr_wsd_decay_samples: 30
    lr_warmup_samples: 10
    auto_skip_spiky_loss: true
    spiky_loss_threshold: 0.02
    skip_samples_range: [40, 44]
    eval_interval: 5
    eval_iters: 1
  data: {data_path: DATA, vocab_size: 1000, split: "80,20"}
)";

// Without what differs from run to run: the time of day and how long it took.
std::string timeless(const std::string& line) {
  static const std::regex kTimes("\\[[0-9 :-]+\\]|elapsed time per iteration \\(ms\\): [0-9.]+ \\|");
  return std::regex_replace(line, kTimes, "");
}

std::vector<std::string> log_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (line.find("] iteration") != std::string::npos || line.find("validation loss") != std::string::npos)
      lines.push_back(timeless(line));
  return lines;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::map<std::string, std::string> newest_checkpoint(const fs::path& run) {
  std::map<std::string, std::string> files;
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(run / "out/checkpoints"))
    if (entry.is_directory()) newest = std::max(newest, entry.path());
  for (const auto& entry : fs::directory_iterator(newest))
    files[newest.filename() / entry.path().filename()] = bytes_of(entry.path());
  return files;
}

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
  void SetUp() override {
    std::string text = kConfiguration;
    text.replace(text.find("DATA"), 4, "[" FLAGSCALE_SOURCE_DIR "/tests/golden/data/a]");
    std::ofstream(folder_ / "kill.yaml") << text;
  }

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
  static Setting in(const fs::path& run) { return {.folder = run, .environment = {"FLAGSCALE_THREADS=2"}}; }

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
