#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <random>

#include "base/error.h"
#include "engine/answer.h"
#include "engine/hash_runner_test_support.h"
#include "engine/sampler.h"
#include "model/config_at.h"

namespace flagscale::engine {
namespace {

const std::string kGolden = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

model::DecoderConfig config_of(const std::string& name) { return model::config_of_folder(kGolden + name); }

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
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  return request;
}

void run_all(Engine& engine) {
  while (engine.step()) {
  }
  EXPECT_EQ(engine.pool().held_pages(), 0);
}

std::vector<float> logprobs_of(const std::vector<OutputToken>& tokens) {
  std::vector<float> result;
  for (const OutputToken& token : tokens) result.push_back(token.logprob);
  return result;
}

class Families : public ::testing::TestWithParam<std::string> {};

TEST_P(Families, GreedyTokensAndLogProbabilitiesOverPagesAreTransformers) {
  Engine engine(runner_for(GetParam()));
  Answer generated, scored[2];
  engine.add(greedy(ids_of(GetParam(), "prompt_ids"), 16), gather_into(generated));
  const auto ids = ids_of(GetParam(), "input_ids");  // two sequences of 24
  for (size_t i = 0; i < 2; ++i) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(24 * i);
    Request request = greedy({begin, begin + 24}, 0);
    request.sampling.prompt_logprobs = 0;
    engine.add(request, gather_into(scored[i]));
  }
  run_all(engine);
  EXPECT_EQ(generated.ids(), ids_of(GetParam(), "greedy_ids"));
  const auto oracle = io::open_weights(kGolden + GetParam() + "/oracle.safetensors");
  double loss = 0;
  for (const Answer& answer : scored) {
    ASSERT_EQ(answer.prompt.size(), 23u);
    for (const float p : logprobs_of(answer.prompt)) loss -= static_cast<double>(p) / 46;
  }
  EXPECT_NEAR(loss, static_cast<double>(oracle->read_f32("loss")[0]), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         ::testing::Values("llama2", "llama3", "llama3_1", "llama3_2", "aquila", "qwen2",
                                           "qwen2_tied", "qwen2_window", "qwen2_yarn", "qwq", "qwen3",
                                           "qwen3_tied", "mixtral", "qwen2_moe", "qwen2_moe_dense",
                                           "qwen3_moe", "qwen3_moe_step"),
                         [](const auto& test) { return test.param; });

// The same request alone, among others, and with its prompt in chunks of 5: every log-probability to the bit.
TEST(Engine, ARequestIsTheSameToTheBitAloneInABatchAndInChunks) {
  const auto ids = ids_of("qwen3", "input_ids");
  std::vector<std::vector<float>> logprobs;
  std::vector<std::vector<int32_t>> outputs;
  for (const auto& [others, budget] :
       {std::pair{0, 64}, std::pair{6, 64}, std::pair{0, 5}, std::pair{6, 5}}) {
    Engine engine(runner_for("qwen3", budget));
    Request request = greedy({ids.begin(), ids.begin() + 24}, 12);
    request.sampling.prompt_logprobs = request.sampling.logprobs = 0;
    Answer answer;
    const Sink nobody = [](const Event&) {};
    for (int i = 0; i < others / 2; ++i)
      engine.add(greedy({ids.begin() + 24, ids.begin() + 30 + i}, 9), nobody);
    engine.add(request, gather_into(answer));
    for (int i = 0; i < others / 2; ++i)
      engine.add(greedy({ids.begin() + 20, ids.begin() + 40 + i}, 5), nobody);
    run_all(engine);
    logprobs.push_back(logprobs_of(answer.prompt));
    for (const float p : logprobs_of(answer.tokens)) logprobs.back().push_back(p);
    outputs.push_back(answer.ids());
  }
  EXPECT_EQ(logprobs[0].size(), 23u + 12);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(logprobs[i], logprobs[0]);
    EXPECT_EQ(outputs[i], outputs[0]);
  }
}

TEST(Engine, PreemptsWhenPagesRunOutAndTheAnswersAreThoseOfAnEmptyMachine) {
  std::vector<Answer> crowded(6), alone(6);
  Engine small(runner_for("llama3", 64, 4)), large(runner_for("llama3", 64));  // four pages: 64 tokens in all
  for (size_t i = 0; i < 6; ++i) {
    const Request request = greedy({1, 5, 9, 3 + static_cast<int32_t>(i)}, 40);
    small.add(request, gather_into(crowded[i]));
    large.add(request, gather_into(alone[i]));
    run_all(large);
  }
  run_all(small);
  EXPECT_GT(small.stats().preemptions, 0);
  EXPECT_EQ(large.stats().preemptions, 0);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(crowded[i].ids(), alone[i].ids());
    EXPECT_EQ(crowded[i].tokens.size(), 40u);
  }
}

TEST(Engine, APrefixIsComputedOnceAndChangesNoBit) {
  const auto ids = ids_of("qwen3", "input_ids");
  Request request = greedy({ids.begin(), ids.begin() + 40}, 8);
  request.sampling.logprobs = 3;
  Answer first, second, salted;
  Engine engine(runner_for("qwen3"));
  engine.add(request, gather_into(first));
  run_all(engine);
  engine.add(request, gather_into(second));
  run_all(engine);
  request.cache_salt = "other";
  engine.add(request, gather_into(salted));
  run_all(engine);
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_EQ(second.cached_tokens, 32);  // two pages; the third is not full
  EXPECT_EQ(salted.cached_tokens, 0);
  EXPECT_EQ(logprobs_of(first.tokens), logprobs_of(second.tokens));
  EXPECT_EQ(first.ids(), second.ids());
}

TEST(Engine, ChoicesShareThePromptAndTheFirstIsTheOneOfASingleChoice) {
  const auto ids = ids_of("llama3", "input_ids");
  Request request = greedy({ids.begin(), ids.begin() + 33}, 10);
  request.sampling.temperature = 1, request.sampling.seed = 7;
  Answer single;
  Engine engine(runner_for("llama3")), other(runner_for("llama3"));
  other.add(request, gather_into(single));
  run_all(other);
  request.n = 4;
  std::vector<Answer> answers(4);
  engine.add(request, gather_into(answers));
  run_all(engine);
  EXPECT_EQ(answers[0].ids(), single.ids());
  EXPECT_NE(answers[1].ids(), answers[0].ids());
  EXPECT_NE(answers[2].ids(), answers[1].ids());
  EXPECT_EQ(engine.stats().prefix_hits, 3 * 32);
  for (const Answer& answer : answers) EXPECT_EQ(answer.tokens.size(), 10u);
}

TEST(Engine, AChoiceThatIsCancelledFreesItsPagesAtOnceAndTheOthersGoOn) {
  Request request = greedy({1, 5, 9, 3, 7, 2, 4, 4, 1, 5, 9, 3, 7, 2, 4, 4, 6}, 30);
  request.sampling.temperature = 1, request.n = 3;
  std::vector<Answer> expected(3), running(3), waiting(3);
  Engine engine(runner_for("llama3"));
  engine.add(request, gather_into(expected));
  run_all(engine);
  const uint64_t id = engine.add(request, gather_into(running));
  for (int i = 0; i < 20; ++i) engine.step();
  const int32_t held = engine.pool().held_pages();
  engine.cancel(id, 1);
  EXPECT_LT(engine.pool().held_pages(), held);
  EXPECT_EQ(running[1].finish, FinishReason::kCancelled);
  engine.cancel(id, 1), engine.cancel(id, 7), engine.cancel(id + 9, 0);  // nothing happens
  run_all(engine);
  EXPECT_EQ(running[0].ids(), expected[0].ids());
  EXPECT_EQ(running[2].ids(), expected[2].ids());
  const uint64_t other = engine.add(request, gather_into(waiting));
  EXPECT_EQ(engine.unstarted(), 1);
  engine.cancel(other, 0);  // the others waited for its prompt
  EXPECT_EQ(engine.unstarted(), 0);
  run_all(engine);
  EXPECT_EQ(waiting[1].ids(), expected[1].ids());
  EXPECT_EQ(waiting[2].ids(), expected[2].ids());
  EXPECT_TRUE(waiting[0].tokens.empty());
  EXPECT_EQ(engine.stats().finished[static_cast<size_t>(FinishReason::kCancelled)], 2);
}

TEST(Engine, StopsAtAStopTokenAndAtTheLength) {
  Engine engine(runner_for("llama3"));
  const auto prompt = ids_of("llama3", "prompt_ids"), expected = ids_of("llama3", "greedy_ids");
  Request request = greedy(prompt, 16);
  request.sampling.stop_ids = {expected[5]};
  Answer stopped, longest, later;
  engine.add(request, gather_into(stopped));
  engine.add(greedy(prompt, 1000), gather_into(longest));
  request.sampling.min_tokens = 8;
  engine.add(request, gather_into(later));
  run_all(engine);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(stopped.ids().back(), expected[5]);
  EXPECT_EQ(longest.finish, FinishReason::kLength);
  EXPECT_EQ(longest.tokens.size() + prompt.size(), 64u);
  EXPECT_GE(later.tokens.size(), 9u);
  EXPECT_NE(later.ids()[5], expected[5]);
}

TEST(Engine, RefusesWhatCannotRun) {
  Engine engine(runner_for("llama3"));
  const auto refused = [&](const Request& request) {
    EXPECT_THROW(engine.add(request, [](const Event&) {}), Error);
  };
  refused(greedy({}, 1));
  refused(greedy({1, 128}, 1));
  refused(greedy({-1}, 1));
  refused(greedy(std::vector<int32_t>(64, 1), 1));
  Request request = greedy({1}, 4);
  request.n = 0, refused(request);
  request.n = 1 << 30, refused(request);
  request.n = 1, request.adapter = "none", refused(request);
  request.adapter = "", request.sampling.temperature = std::nanf(""), refused(request);
  request.sampling.temperature = 1, request.sampling.logit_bias = {{1, INFINITY}}, refused(request);
  request.sampling.logit_bias = {{128, 0.f}}, refused(request);
  EXPECT_FALSE(engine.step());
}

TEST(Engine, PenaltiesAndBiasChangeWhatIsDrawnButNotItsLogProbability) {
  const auto prompt = ids_of("llama3", "prompt_ids"), greedy_ids = ids_of("llama3", "greedy_ids");
  Engine engine(runner_for("llama3"));
  Request request = greedy(prompt, 16);
  request.sampling.logprobs = 2;
  Answer plain, biased, allowed, penalised;
  engine.add(request, gather_into(plain));
  Request other = request;
  other.sampling.logit_bias = {{plain.ids().empty() ? greedy_ids[0] : 0, -100.f}};
  engine.add(other, gather_into(biased));
  other = request;
  other.sampling.allowed_ids = {3, 4};
  engine.add(other, gather_into(allowed));
  other = request;
  other.sampling.frequency_penalty = 100, other.sampling.presence_penalty = 100;
  engine.add(other, gather_into(penalised));
  run_all(engine);
  EXPECT_EQ(biased.ids()[0], plain.tokens[0].best[1].id);
  EXPECT_EQ(biased.tokens[0].logprob, plain.tokens[0].best[1].logprob);
  EXPECT_EQ(plain.tokens[0].best[0].id, plain.tokens[0].id);
  EXPECT_EQ(plain.tokens[0].best[0].rank, 1);
  for (const int32_t id : allowed.ids()) EXPECT_TRUE(id == 3 || id == 4);
  auto distinct = penalised.ids();
  std::ranges::sort(distinct);
  EXPECT_EQ(std::ranges::unique(distinct).size(), 0u);
}

TEST(Engine, EmbedsTheLastTokenTheSameAloneAndInABatch) {
  const auto ids = ids_of("qwen3", "input_ids");
  Request request = greedy({ids.begin(), ids.begin() + 24}, 16);
  request.embed = true;
  Answer alone, beside, text;
  Engine engine(runner_for("qwen3")), batch(runner_for("qwen3", 16));
  engine.add(request, gather_into(alone));
  run_all(engine);
  batch.add(greedy({ids.begin() + 3, ids.begin() + 30}, 4), gather_into(text));
  batch.add(request, gather_into(beside));
  run_all(batch);
  EXPECT_EQ(alone.embedding.size(), static_cast<size_t>(engine.runner().config().hidden_size));
  EXPECT_EQ(alone.embedding, beside.embedding);
  EXPECT_EQ(text.tokens.size(), 4u);
}

TEST(Sampler, SaysWhatIsNotANumber) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float temperature : {0.f, 1.f})
    for (const size_t at : {0u, 5u, 16u, 17u}) {  // of vectors, and of what is left over
      SamplingParams params;
      params.temperature = temperature;
      std::vector<float> logits(18, 1.f);
      const auto with = [&](float value) {
        logits[at] = value;
        return sample(logits, params, {1, 0, 0});
      };
      EXPECT_EQ(with(std::numeric_limits<float>::quiet_NaN()), kNotNumbers);
      EXPECT_FALSE(std::isfinite(log_sum_exp(logits)));
      EXPECT_EQ(with(kInfinity), kNotNumbers);
      EXPECT_FALSE(std::isfinite(log_sum_exp(logits)));
      EXPECT_GE(with(-kInfinity), 0);
      EXPECT_TRUE(std::isfinite(log_sum_exp(logits)));
      EXPECT_EQ(sample(std::vector<float>(18, -kInfinity), params, {1, 0, 0}), kNoToken);
    }
}

// The model gives no numbers after one token; the others' answers are what they are without it.
TEST(Engine, ARequestWhoseLogitsAreNotNumbersEndsAlone) {
  constexpr int64_t kVocab = 64;
  constexpr int32_t kBad = 63;
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    RunnerOptions options;
    options.max_tokens = options.max_rows = 8, options.max_sequences = 4, options.max_length = 64;
    options.pages = 16;
    auto owned = std::make_unique<testing::HashRunner>(kVocab, options);
    testing::HashRunner* runner = owned.get();
    runner->observe = [&](std::span<const StepChunk> chunks) {
      int64_t row = 0;
      for (const StepChunk& chunk : chunks)
        for (int64_t i = 0; i < chunk.rows; ++i, ++row)
          if (chunk.ids[static_cast<size_t>(chunk.first_row + i)] == kBad) runner->logits(row)[7] = value;
    };
    Engine engine(std::move(owned));
    const std::vector<int32_t> good{1, 2, 3}, bad{1, 2, kBad}, late{1, 2, kBad, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    Answer fine, greedy_one, logprobs, scored, masked;
    std::vector<Answer> drawn(3), long_ones(2);
    engine.add(greedy(good, 12), gather_into(fine));
    engine.add(greedy(bad, 12), gather_into(greedy_one));
    Request request = greedy(bad, 12);
    request.sampling.logprobs = 2;
    engine.add(request, gather_into(logprobs));
    request = greedy(bad, 12);
    request.sampling.allowed_ids = {1, 2};  // not the one that is broken
    engine.add(request, gather_into(masked));
    request = greedy(bad, 12);
    request.sampling.temperature = 1, request.n = 3;
    engine.add(request, gather_into(drawn));
    request = greedy(late, 0);
    request.sampling.prompt_logprobs = 0;
    engine.add(request, gather_into(scored));
    request.sampling.max_tokens = 4, request.n = 2;  // the prompt ends in its first chunk
    engine.add(request, gather_into(long_ones));
    run_all(engine);
    EXPECT_EQ(fine.ids(), testing::HashRunner::expected(good, 12, kVocab));
    EXPECT_EQ(fine.finish, FinishReason::kLength);
    for (const Answer* answer :
         {&greedy_one, &logprobs, &masked, &drawn[0], &drawn[1], &drawn[2], &scored, &long_ones[0]}) {
      EXPECT_EQ(answer->finish, FinishReason::kError);
      EXPECT_EQ(answer->tokens.size(), 0u);
      EXPECT_NE(answer->error.find("after 3 tokens is not a number"), std::string::npos) << answer->error;
    }
    EXPECT_NE(long_ones[1].finish, FinishReason::kNone) << "it waits for a prompt that comes to nothing";
  }
}

TEST(Sampler, RanksAreThePlacesInTheOrderOfAll) {
  std::mt19937 random(3);
  std::vector<float> logits(1000);
  for (float& logit : logits) logit = static_cast<float>(random() % 200);  // with ties
  const auto best = best_tokens(logits, 0, 1000);
  ASSERT_EQ(best.size(), logits.size());
  for (const TokenLogprob& token : best) ASSERT_EQ(rank_of(logits, token.id), token.rank) << token.id;
}

TEST(Sampler, DrawsFromTheTruncatedDistribution) {
  const std::vector<float> logits{0.f, std::log(2.f), std::log(4.f), std::log(3.f), -30.f};
  SamplingParams params;
  params.seed = 11;
  const auto counts = [&] {
    std::vector<double> n(5);
    for (int64_t i = 0; i < 20000; ++i)
      n[static_cast<size_t>(sample(logits, params, {params.seed, 0, i}))] += 1.0 / 20000;
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
