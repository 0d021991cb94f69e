#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "engine/sampler.h"
#include "engine/schedule.h"

namespace flagscale::engine {
namespace {

const std::string kGolden = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

model::DecoderConfig config_of(const std::string& name) {
  std::ostringstream text;
  text << std::ifstream(kGolden + name + "/config.json").rdbuf();
  return model::parse_config(text.str());
}

std::unique_ptr<Runner> runner_for(const std::string& name, int64_t max_tokens = 64, int32_t pages = 0) {
  RunnerOptions options;
  options.max_tokens = max_tokens;
  options.max_sequences = 8;
  options.max_length = 64;
  options.pages = pages;
  options.threads = 2;
  return std::make_unique<Runner>(config_of(name), *io::open_weights(kGolden + name), options);
}

std::vector<int32_t> ids_of(const std::string& name, const char* tensor) {
  const auto oracle = io::open_weights(kGolden + name + "/oracle.safetensors");
  std::vector<int64_t> wide(static_cast<size_t>(oracle->info(tensor).numel()));
  oracle->read(tensor, 0, oracle->info(tensor).rows(), DType::kI64, std::as_writable_bytes(std::span(wide)));
  return {wide.begin(), wide.end()};
}

Request greedy(std::vector<int32_t> prompt, int max_tokens) {
  Request request{std::move(prompt), {}};
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  return request;
}

void run_all(Engine& engine) {
  while (engine.step()) {
  }
}

class Families : public ::testing::TestWithParam<std::string> {};

TEST_P(Families, GreedyTokensAndLogProbabilitiesOverPagesAreTransformers) {
  Engine engine(runner_for(GetParam()));
  const Sequence& generated = engine.add(greedy(ids_of(GetParam(), "prompt_ids"), 16));
  const auto ids = ids_of(GetParam(), "input_ids");  // two sequences of 24
  std::vector<const Sequence*> scored;
  for (size_t first : {size_t{0}, size_t{24}}) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
    Request request = greedy({begin, begin + 24}, 0);
    request.sampling.prompt_logprobs = true;
    scored.push_back(&engine.add(request));
  }
  run_all(engine);
  EXPECT_EQ(generated.output(), ids_of(GetParam(), "greedy_ids"));
  const auto oracle = io::open_weights(kGolden + GetParam() + "/oracle.safetensors");
  double loss = 0;
  for (const Sequence* s : scored) {
    ASSERT_EQ(s->prompt_logprobs.size(), 23u);
    for (const float p : s->prompt_logprobs) loss -= static_cast<double>(p) / 46;
  }
  EXPECT_NEAR(loss, static_cast<double>(oracle->read_f32("loss")[0]), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Golden, Families, ::testing::Values("llama2", "llama3", "llama3_1", "llama3_2", "aquila", "qwen2",
                                                             "qwen2_tied", "qwen2_window", "qwen2_yarn", "qwq", "qwen3", "qwen3_tied"),
                         [](const auto& test) { return test.param; });

// The same request alone, among others, and with its prompt in chunks of 5: every log-probability to the bit.
TEST(Engine, ARequestIsTheSameToTheBitAloneInABatchAndInChunks) {
  const auto ids = ids_of("qwen3", "input_ids");
  std::vector<std::vector<float>> logprobs;
  std::vector<std::vector<int32_t>> outputs;
  for (const auto& [others, budget] : {std::pair{0, 64}, std::pair{6, 64}, std::pair{0, 5}, std::pair{6, 5}}) {
    Engine engine(runner_for("qwen3", budget));
    Request request = greedy({ids.begin(), ids.begin() + 24}, 12);
    request.sampling.prompt_logprobs = true;
    for (int i = 0; i < others / 2; ++i) engine.add(greedy({ids.begin() + 24, ids.begin() + 30 + i}, 9));
    const Sequence& s = engine.add(request);
    for (int i = 0; i < others / 2; ++i) engine.add(greedy({ids.begin() + 20, ids.begin() + 40 + i}, 5));
    run_all(engine);
    logprobs.push_back(s.prompt_logprobs);
    outputs.push_back(s.output());
  }
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(logprobs[i], logprobs[0]);
    EXPECT_EQ(outputs[i], outputs[0]);
  }
}

TEST(Engine, WaitsForPagesAndGivesThemBack) {
  Engine engine(runner_for("llama3", 64, 4));  // four pages: 64 tokens in all
  std::vector<const Sequence*> sequences;
  for (int i = 0; i < 6; ++i) sequences.push_back(&engine.add(greedy({1, 5, 9, 3 + i}, 20)));
  run_all(engine);
  for (const Sequence* s : sequences) EXPECT_TRUE(s->output_size() == 20 || s->finished == FinishReason::kStop);
}

TEST(Engine, StopsAtAStopTokenAndAtTheLength) {
  Engine engine(runner_for("llama3"));
  const auto prompt = ids_of("llama3", "prompt_ids"), expected = ids_of("llama3", "greedy_ids");
  Request request = greedy(prompt, 16);
  request.sampling.stop_ids = {expected[5]};
  const Sequence &stopped = engine.add(request), &longest = engine.add(greedy(prompt, 1000));
  run_all(engine);
  EXPECT_EQ(stopped.finished, FinishReason::kStop);
  EXPECT_EQ(stopped.output().back(), expected[5]);
  EXPECT_EQ(longest.finished, FinishReason::kLength);
  EXPECT_EQ(longest.tokens.size(), 64u);
}

TEST(Engine, RefusesWhatCannotRun) {
  Engine engine(runner_for("llama3"));
  EXPECT_THROW(engine.add(greedy({}, 1)), Error);
  EXPECT_THROW(engine.add(greedy({1, 128}, 1)), Error);
  EXPECT_THROW(engine.add(greedy({-1}, 1)), Error);
  EXPECT_THROW(engine.add(greedy(std::vector<int32_t>(64, 1), 1)), Error);
}

TEST(Schedule, TokensThatGenerateGoFirstPromptsFillTheRest) {
  const auto chunks = plan_step({{100, 0}, {50, 49}, {30, 10}, {7, 7}}, 60);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].sequence, 1);
  EXPECT_EQ(chunks[0].count, 1);
  EXPECT_EQ(chunks[1].sequence, 0);
  EXPECT_EQ(chunks[1].count, 59);
}

TEST(Sampler, DrawsFromTheTruncatedDistribution) {
  const std::vector<float> logits{0.f, std::log(2.f), std::log(4.f), std::log(3.f), -30.f};
  SamplingParams params;
  params.seed = 11;
  const auto counts = [&] {
    std::vector<double> n(5);
    for (int64_t i = 0; i < 20000; ++i) n[static_cast<size_t>(sample(logits, params, i))] += 1.0 / 20000;
    return n;
  };
  EXPECT_NEAR(counts()[2], 0.4, 0.015);
  EXPECT_NEAR(counts()[0], 0.1, 0.015);
  params.top_k = 2;
  EXPECT_NEAR(counts()[2], 4.0 / 7, 0.015);
  EXPECT_EQ(counts()[1], 0);
  params.top_k = 0, params.top_p = 0.65f;  // 0.4 + 0.3
  EXPECT_NEAR(counts()[3], 3.0 / 7, 0.015);
  EXPECT_EQ(counts()[1], 0);
  params.top_p = 1, params.min_p = 0.6f;
  EXPECT_NEAR(counts()[3], 3.0 / 7, 0.015);
  params.temperature = 0;
  EXPECT_NEAR(counts()[2], 1, 1e-9);
}

}  // namespace
}  // namespace flagscale::engine
