// What bench throughput gives an engine, with a stand-in for the model.
#include "engine/throughput.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "engine/hash_runner_test_support.h"

namespace flagscale::engine::throughput_test {
namespace {

constexpr int64_t kVocab = 24;

class ThroughputOf : public ::testing::TestWithParam<bool> {
 protected:
  ThroughputOf() {
    RunnerOptions options;
    options.max_tokens = 64, options.max_sequences = 8, options.max_length = 60, options.threads = 1;
    auto made = std::make_unique<testing::HashRunner>(kVocab, options);
    made->launching = GetParam();
    made->observe = [this](std::span<const StepChunk> chunks) {
      most = std::max(most, chunks.size());
      for (const StepChunk& chunk : chunks) {
        computed += static_cast<int64_t>(chunk.ids.size());
        if (chunk.first == 0) prompts.emplace(chunk.ids.begin(), chunk.ids.end());
      }
    };
    EngineOptions plain;
    plain.prefix_caching = false;
    engine = std::make_unique<Engine>(std::move(made), plain);
    load.prompts = 20, load.input_tokens = 40, load.output_tokens = 10;
  }

  std::unique_ptr<Engine> engine;
  ThroughputOptions load;
  size_t most = 0;
  int64_t computed = 0;
  std::set<std::vector<int32_t>> prompts;  // as far as their first steps had them
};

TEST_P(ThroughputOf, CountsEveryTokenOfEveryRequest) {
  int64_t ticks = 0;
  const Throughput t = measure_throughput(*engine, load, [&](const Throughput&) { return ++ticks > 0; });
  EXPECT_EQ(t.finished, 20);
  EXPECT_EQ(t.prompt_tokens, 20 * 40);
  EXPECT_EQ(t.output_tokens, 20 * 10);
  EXPECT_EQ(t.prefill.tokens + t.decode.tokens, computed);
  EXPECT_EQ(computed, 20 * (40 + 9)) << "the last token of an answer is not computed";
  EXPECT_EQ(t.prefill.count + t.decode.count, ticks);
  EXPECT_GT(t.decode.count, 0);
  EXPECT_GE(t.prefill.tokens, 20 * 40);
  EXPECT_EQ(most, 8u) << "as many as the engine takes";
  EXPECT_EQ(prompts.size(), 20u) << "no two are alike";
  EXPECT_EQ(t.launched_ahead > 0, GetParam());
  EXPECT_NEAR(t.prefill.seconds + t.decode.seconds, t.seconds, 1e-6);
  EXPECT_GT(t.model_seconds, 0);
  EXPECT_LE(t.model_seconds + t.idle_seconds, t.seconds);
  EXPECT_EQ(t.idle_seconds > 0, t.launched_ahead + 1 < ticks)
      << "only steps that are not launched yet are waited for";
  EXPECT_FALSE(t.interrupted);
  EXPECT_FALSE(engine->has_work());
}

TEST_P(ThroughputOf, KeepsSoManyUnderWay) {
  load.concurrency = 3;
  const Throughput t = measure_throughput(*engine, load, [&](const Throughput& so_far) {
    const Stats stats = engine->stats();
    EXPECT_LE(stats.running + stats.waiting, 3);
    return so_far.finished <= 20;
  });
  EXPECT_EQ(t.finished, 20);
  EXPECT_EQ(most, 3u);
}

TEST_P(ThroughputOf, DrawsTheSameAgain) {
  load.seed = 7;
  load.temperature = 0;
  const auto all = [](const Throughput&) { return true; };
  measure_throughput(*engine, load, all);
  const std::set<std::vector<int32_t>> first = prompts;
  measure_throughput(*engine, load, all);
  EXPECT_EQ(prompts, first);
  load.seed = 8;
  const Throughput t = measure_throughput(*engine, load, all);
  EXPECT_GT(prompts.size(), first.size());
  EXPECT_EQ(t.output_tokens, 200) << "of this run alone";
}

TEST_P(ThroughputOf, EndsWhereItIsToldTo) {
  const Throughput t =
      measure_throughput(*engine, load, [](const Throughput& so_far) { return so_far.finished < 5; });
  EXPECT_TRUE(t.interrupted);
  EXPECT_GE(t.finished, 5);
  EXPECT_LT(t.finished, 20);
  EXPECT_FALSE(engine->has_work());
  EXPECT_EQ(engine->pool().held_pages(), 0);
}

TEST_P(ThroughputOf, RefusesWhatCannotRun) {
  load.input_tokens = 60;
  EXPECT_THROW(measure_throughput(*engine, load, [](const Throughput&) { return true; }), Error);
}

INSTANTIATE_TEST_SUITE_P(All, ThroughputOf, ::testing::Bool());

}  // namespace
}  // namespace flagscale::engine::throughput_test
