// Ctrl-C at random moments: an end in order, exit code 130, what is there whole; and where it makes sense the
// same command goes on.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

class Interrupt : public Workshop {
 protected:
  // How long the command takes undisturbed; `clean` before it.
  template <class Clean>
  static std::chrono::microseconds time_of(const Words& words, Clean clean) {
    clean();
    const auto start = Clock::now();
    must(words);
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
  }

  // Interrupts at `moments` of the command's time, each after clean(); check() looks at what is left. At
  // least one must have come in time.
  template <class Clean, class Check>
  static void at_moments(const Words& words, Clean clean, Check check, int moments = 5) {
    const auto took = time_of(words, clean);
    std::mt19937 random{std::random_device{}()};
    int in_time = 0;
    for (int i = 0; i < moments || (in_time == 0 && i < 5 * moments); ++i) {
      clean();
      Child child(program(words), {.folder = folder_});
      const double share = (i % moments + std::uniform_real_distribution<>(0, 1)(random)) / moments;
      std::this_thread::sleep_for(took * share);
      child.signal(SIGINT);
      const Result result = child.wait();
      EXPECT_TRUE(result.code == 130 || result.code == 0) << words[1] << " ended with " << result.code << "\n"
                                                          << result.err;
      in_time += result.code == 130;
      check(result);
      if (HasFailure()) return;
    }
    EXPECT_GT(in_time, 0) << words[1];
  }

  static void expect_whole_or_absent(const std::string& folder, const std::string& last) {
    EXPECT_TRUE(left_aside(folder).empty()) << left_aside(folder)[0];
    if (fs::exists(folder_ / folder)) {
      EXPECT_TRUE(fs::exists(folder_ / folder / last)) << folder << " is half";
    }
  }
};

TEST_F(Interrupt, TrainingSavesTheLastIterationAndGoesOn) {
  const Words words = training("run", {"train.model.train_iters=60", "train.system.logging.log_interval=1"});
  const auto clean = [] { fs::remove_all(folder_ / "run"); };
  clean();
  must(words);
  const std::string shard = "run/checkpoints/iter_0000060/rank_00000_00000.safetensors",
                    whole = contents(shard);
  at_moments(
      words, clean,
      [&](const Result& result) {
        EXPECT_TRUE(left_aside("run").empty());
        if (result.code == 0) return;
        const bool saved = fs::exists(folder_ / "run/checkpoints/latest_checkpointed_iteration.txt");
        if (!result.err.empty()) {
          EXPECT_NE(result.err.find(saved ? "the same command goes on" : "flagscale"), std::string::npos)
              << result.err;
        }
        if (saved) must({"checkpoint", "verify", "run/checkpoints"});
        must(words);
        EXPECT_EQ(contents(shard), whole);
      },
      4);
}

// The answer comes at once; a second signal, here before the program does anything else, ends it there.
TEST_F(Interrupt, SaysWhatItWaitsForAndWaitsForNothingTheSecondTime) {
  const Words words = training("told", {"train.model.train_iters=1000000", "train.model.eval_iters=0"});
  for (const bool again : {false, true}) {
    Child child(program(words), {.folder = folder_});
    const auto trains = [&] { return child.said().find("lm loss") != std::string::npos; };
    for (int i = 0; i < 6000 && child.running() && !trains(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_TRUE(trains());
    child.signal(SIGSTOP);
    child.signal(SIGINT);
    if (again) child.signal(SIGTERM);
    child.signal(SIGCONT);
    const Result result = child.wait();
    const bool told = result.err.find(
                          "\nstopping after this micro-batch; then the last whole iteration is saved "
                          "(Ctrl-C again ends at once, with what was saved before)\n") != std::string::npos;
    EXPECT_TRUE(told || again)
        << result.err;  // two signals at once may reach two threads, and the second ends it
    EXPECT_EQ(result.err.find("the same command goes on") == std::string::npos, again) << result.err;
    if (again)
      EXPECT_TRUE(result.code == 128 + SIGINT || result.code == 128 + SIGTERM) << result.code;
    else
      EXPECT_EQ(result.code, 130);
    must({"checkpoint", "verify", "told/checkpoints"});
  }
}

// A connection that breaks: the shell sends SIGHUP, and so does the kernel.
TEST_F(Interrupt, TheTerminalsEndIsAStopInOrder) {
  const Words words = training("hung", {"train.model.train_iters=1000000", "train.model.eval_iters=0"});
  Child child(program(words), {.folder = folder_});
  const auto trains = [&] { return child.said().find("lm loss") != std::string::npos; };
  for (int i = 0; i < 6000 && child.running() && !trains(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_TRUE(trains());
  child.signal(SIGHUP);
  child.signal(SIGHUP);
  const Result result = child.wait();
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_NE(result.err.find("the same command goes on"), std::string::npos) << result.err;
  must({"checkpoint", "verify", "hung/checkpoints"});
}

TEST_F(Interrupt, PreprocessingGoesOn) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += contents("text.txt");
  write("long.txt", text);
  const Words words{"data",        "preprocess", "--input",         "long.txt", "--plain-text",
                    "--tokenizer", "tokenizer",  "--output-prefix", "out/long"};
  const auto clean = [] { fs::remove_all(folder_ / "out"), fs::create_directory(folder_ / "out"); };
  clean();
  must(words);
  const std::string bin = contents("out/long_text_document.bin"),
                    idx = contents("out/long_text_document.idx");
  at_moments(words, clean, [&](const Result& result) {
    if (result.code == 130) {
      EXPECT_FALSE(fs::exists(folder_ / "out/long_text_document.idx"));
    }
    must(words);
    EXPECT_EQ(contents("out/long_text_document.bin"), bin);
    EXPECT_EQ(contents("out/long_text_document.idx"), idx);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "out"), {}), 2) << "something is left beside";
  });
}

TEST_F(Interrupt, TokenizerTrainingLeavesNothing) {
  const Words words{"data", "train-tokenizer", "--input", "text.txt", "--vocab-size",
                    "8000", "--output",        "t"};
  at_moments(
      words, [] { fs::remove_all(folder_ / "t"); },
      [](const Result& result) {
        expect_whole_or_absent("t", "tokenizer.json");
        if (result.code == 130 && !result.err.empty()) {
          EXPECT_FALSE(fs::exists(folder_ / "t/tokenizer.json"));
        }
      });
}

// Whatever is laid out: a plan of many launches, the order of many samples.
TEST_F(Interrupt, PlanningStopsAtOnce) {
  const Words many_layers = training(
      "planned", {"train.model.num_layers=6000", "train.model.hidden_size=16",
                  "train.model.ffn_hidden_size=16", "train.model.num_attention_heads=1", "action=dryrun"});
  const Words many_samples = training("ordered", {"train.model.train_iters=3000000", "action=test"});
  for (const Words& words : {many_layers, many_samples}) {
    const auto start = Clock::now();
    const Result whole = must(words);
    const auto took = Clock::now() - start;
    Child child(program(words), {.folder = folder_});
    std::this_thread::sleep_for(took / 4);
    child.signal(SIGINT);
    const Result result = child.wait();
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_NE(result.err.find("interrupted"), std::string::npos) << result.err;
    EXPECT_LT(result.cpu_seconds, whole.cpu_seconds / 2) << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "ordered/checkpoints"));
  }
}

TEST_F(Interrupt, GeneratingAndExportingStop) {
  must(
      training("big", {"train.model.train_iters=1", "train.model.eval_iters=0", "train.model.hidden_size=512",
                       "train.model.ffn_hidden_size=2048", "train.model.num_layers=6"}));
  at_moments(
      {"generate", "big/checkpoints", "--prompt", "namespace", "--max-tokens", "50", "--temperature", "0"},
      [] {},
      [](const Result& result) {
        if (result.code == 130 && !result.err.empty()) {
          EXPECT_NE(result.err.find("interrupted"), std::string::npos) << result.err;
        }
      });
  at_moments(
      {"checkpoint", "export", "big/checkpoints", "exports/hf"}, [] { fs::remove_all(folder_ / "exports"); },
      [](const Result&) {
        expect_whole_or_absent("exports/hf", "config.json");
        EXPECT_TRUE(left_aside("exports").empty());
      });
}

}  // namespace
}  // namespace flagscale::e2e
