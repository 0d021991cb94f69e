// Steps that are launched before the tokens of the one before them are known, with a stand-in for a GPU. That
// answers stay right under random load is shown by RandomLoad (schedule_test.cc).
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/hash_runner_test_support.h"

namespace flagscale::engine::launch_test {
namespace {

constexpr int64_t kVocab = 24;

class Launched : public ::testing::Test {
 protected:
  Launched() { start({}); }

  void start(EngineOptions engine_options, int sequences = 8, int32_t pages = 0) {
    RunnerOptions options;
    options.max_tokens = 64, options.max_sequences = sequences, options.max_length = 160, options.threads = 1;
    options.pages = pages;
    auto made = std::make_unique<testing::HashRunner>(kVocab, options);
    made->launching = true;
    made->observe = [this](std::span<const StepChunk> chunks) {
      sizes.push_back(chunks.size());
      for (const StepChunk& chunk : chunks) unknown += chunk.id_row >= 0;
    };
    runner = made.get();
    engine = std::make_unique<Engine>(std::move(made), engine_options);
    sizes.clear();
    unknown = 0;
  }

  static Request request_of(int32_t seed, int tokens) {
    Request request;
    for (int32_t i = 0; i < 20; ++i) request.prompt.push_back((i * 5 + seed * 7) % kVocab);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = tokens;
    return request;
  }
  static std::vector<int32_t> expected(const Request& request) {
    return testing::HashRunner::expected(request.prompt, request.sampling.max_tokens, kVocab);
  }
  void run_all() {
    while (engine->step()) {
    }
    EXPECT_EQ(engine->pool().held_pages(), 0);
  }

  testing::HashRunner* runner = nullptr;
  std::unique_ptr<Engine> engine;
  std::vector<size_t> sizes;  // chunks of each step, as it is launched
  int64_t unknown = 0;        // tokens that the host did not know
};

TEST_F(Launched, TheNextStepIsLaunchedBeforeTheTokensOfTheCurrentOneAreRead) {
  const Request request = request_of(1, 10);
  Answer answer;
  engine->add(request, gather_into(answer));
  for (size_t step = 1; step <= 10; ++step) {
    EXPECT_TRUE(engine->compute());
    EXPECT_EQ(sizes.size(), std::min<size_t>(10, step + 1));
    EXPECT_EQ(answer.tokens.size(), step - 1);
  }
  EXPECT_FALSE(engine->deliver());
  EXPECT_EQ(answer.ids(), expected(request));
  EXPECT_EQ(unknown, 9) << "all but the prompt";
  EXPECT_EQ(engine->stats().steps_launched_ahead, 9);
  EXPECT_EQ(engine->stats().steps, 10);
  EXPECT_EQ(engine->pool().held_pages(), 0);
}

// Two requests; the first ends at its k-th token. What the next step computes for it is told nobody.
TEST_F(Launched, WhoStopsHasARowInTheNextStepThatNobodyIsToldOf) {
  std::array<Request, 2> requests{request_of(1, 40), request_of(2, 40)};
  const std::vector<int32_t> whole = expected(requests[0]);
  const int32_t stop = whole[12];
  requests[0].sampling.stop_ids = {stop};
  const auto length = static_cast<size_t>(std::ranges::find(whole, stop) - whole.begin()) + 1;
  std::array<Answer, 2> answers;
  for (size_t i = 0; i < 2; ++i) engine->add(requests[i], gather_into(answers[i]));
  int32_t held = 0;
  for (size_t step = 0; step < length; ++step) {
    held = engine->pool().held_pages();
    engine->compute();
  }
  EXPECT_LT(engine->pool().held_pages(), held) << "its pages are free at once";
  EXPECT_EQ(sizes.back(), 2u) << "its row was launched";
  run_all();
  EXPECT_EQ(sizes[length + 1], 1u);
  EXPECT_EQ(answers[0].finish, FinishReason::kStop);
  EXPECT_EQ(answers[0].ids(),
            std::vector(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
  EXPECT_EQ(answers[1].ids(), expected(requests[1]));
  EXPECT_EQ(engine->stats().generation_tokens, static_cast<int64_t>(length) + 40);
}

// The last one: a step of nobody is under way when the next request comes.
TEST_F(Launched, AStepOfNobodyIsForgotten) {
  Request first = request_of(1, 40);
  const std::vector<int32_t> whole = expected(first);
  first.sampling.stop_ids = {whole[5]};
  for (int round = 0; round < 3; ++round) {
    Answer stopped, other;
    engine->add(first, gather_into(stopped));
    run_all();
    EXPECT_EQ(stopped.finish, FinishReason::kStop);
    EXPECT_GT(sizes.size(), stopped.tokens.size());
    const Request second = request_of(2 + round, 30);
    engine->add(second, gather_into(other));
    run_all();
    EXPECT_EQ(other.ids(), expected(second));
    sizes.clear();
  }
}

// Its pages go to who waits for them while its row is still under way.
TEST_F(Launched, WhoIsCancelledInBetweenLeavesNothing) {
  start({}, 8, 10);  // 160 tokens
  std::array<Request, 3> requests{request_of(1, 60), request_of(2, 40), request_of(3, 60)};
  std::array<Answer, 3> answers;
  std::array<uint64_t, 3> ids{};
  for (size_t i = 0; i < 3; ++i) ids[i] = engine->add(requests[i], gather_into(answers[i]));
  for (int step = 0; step < 17; ++step) engine->compute();
  const size_t launched = sizes.size();
  engine->cancel(ids[0]);
  engine->cancel(ids[1], 0);
  EXPECT_EQ(answers[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(answers[0].finish, FinishReason::kNone);
  EXPECT_EQ(launched, 18u);
  run_all();
  EXPECT_EQ(answers[2].ids(), expected(requests[2]));
  const std::vector<int32_t> whole = expected(requests[1]), told = answers[1].ids();
  EXPECT_EQ(told.size(), 17u);
  EXPECT_TRUE(std::equal(told.begin(), told.end(), whole.begin()));
}

TEST_F(Launched, EveryoneMayBeCancelledWhileAStepIsUnderWay) {
  for (int round = 0; round < 4; ++round) {
    std::array<Answer, 2> answers;
    std::array<uint64_t, 2> ids{};
    for (int32_t i = 0; i < 2; ++i)
      ids[static_cast<size_t>(i)] = engine->add(request_of(i, 50), [](const Event&) {});
    for (int step = 0; step <= round; ++step) engine->compute();
    for (const uint64_t id : ids) engine->cancel(id);
    EXPECT_FALSE(engine->has_work());
    EXPECT_EQ(engine->pool().held_pages(), 0);
    EXPECT_FALSE(engine->compute());
    const Request request = request_of(9, 30);
    Answer answer;
    engine->add(request, gather_into(answer));
    run_all();
    EXPECT_EQ(answer.ids(), expected(request));
  }
}

TEST_F(Launched, PromptsJoinAStepThatIsLaunchedAhead) {
  std::array<Answer, 4> answers;
  std::vector<Request> requests;
  for (int32_t i = 0; i < 4; ++i) {
    requests.push_back(request_of(i, 30));
    engine->add(requests.back(), gather_into(answers[static_cast<size_t>(i)]));
    for (int step = 0; step < 4; ++step) engine->step();
  }
  run_all();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(answers[i].ids(), expected(requests[i]));
  EXPECT_EQ(engine->stats().steps_launched_ahead, engine->stats().steps - 1);
}

TEST_F(Launched, PromptsThatBeginAlikeStartWhenThePagesOfTheFirstAreThere) {
  const auto launched = [&](bool alike) {
    start({});
    std::array<Answer, 4> answers;
    for (int32_t i = 0; i < 4; ++i) {
      Request request = request_of(alike ? 1 : i, 12);
      request.prompt.back() = i;
      engine->add(request, gather_into(answers[static_cast<size_t>(i)]));
      if (i == 0) engine->step();
    }
    run_all();
    for (int32_t i = 0; i < 4; ++i) {
      Request request = request_of(alike ? 1 : i, 12);
      request.prompt.back() = i;
      EXPECT_EQ(answers[static_cast<size_t>(i)].ids(), expected(request));
      EXPECT_EQ(answers[static_cast<size_t>(i)].cached_tokens, alike && i > 0 ? 16 : 0);
    }
    return engine->stats().steps - 1 - engine->stats().steps_launched_ahead;
  };
  EXPECT_EQ(launched(false), 0);
  EXPECT_EQ(launched(true), 1) << "the second waits for the first";
}

// No step is spent on fewer than there could be, though who ends is known to have ended only afterwards.
TEST_F(Launched, WhoEndsByItsLengthMakesRoomInTheNextStep) {
  start({}, 2);
  std::array<Answer, 12> answers;
  for (int32_t i = 0; i < 12; ++i)
    engine->add(request_of(i, 3), gather_into(answers[static_cast<size_t>(i)]));
  run_all();
  for (int32_t i = 0; i < 12; ++i)
    EXPECT_EQ(answers[static_cast<size_t>(i)].ids(), expected(request_of(i, 3))) << i;
  EXPECT_EQ(engine->stats().steps, 18);
}

// Whose logits the host looks at draws there, and what follows waits for it.
TEST_F(Launched, WhatTheHostDecidesIsWaitedFor) {
  const auto launched = [&](auto&& change) {
    start({});
    std::array<Request, 2> requests{request_of(1, 20), request_of(2, 20)};
    change(requests[1].sampling);
    std::array<Answer, 2> answers;
    for (size_t i = 0; i < 2; ++i) engine->add(requests[i], gather_into(answers[i]));
    run_all();
    for (size_t i = 0; i < 2; ++i) EXPECT_EQ(answers[i].ids(), expected(requests[i]));
    return engine->stats().steps_launched_ahead;
  };
  EXPECT_EQ(launched([](SamplingParams&) {}), 19);
  EXPECT_EQ(launched([](SamplingParams& p) { p.logprobs = 2; }), 0);
  EXPECT_EQ(launched([](SamplingParams& p) { p.prompt_logprobs = 2; }), 0);
  EXPECT_EQ(launched([](SamplingParams& p) { p.logit_bias = {{3, 0.f}}; }), 0);
  // From the sixth token on nothing is masked: that step is the first to be launched ahead of.
  EXPECT_EQ(launched([](SamplingParams& p) { p.min_tokens = 5, p.stop_ids = {kVocab - 1}; }), 14);
  start({.prefix_caching = true, .speculation = {}, .tokenizer = nullptr, .plan_ahead = false});
  Answer answer;
  engine->add(request_of(1, 20), gather_into(answer));
  run_all();
  EXPECT_EQ(answer.ids(), expected(request_of(1, 20)));
  EXPECT_EQ(unknown, 0);
}

TEST_F(Launched, WhenTheGpuIsLostEveryoneIsToldAndNothingStays) {
  for (int finishes = 0; finishes < 5; ++finishes) {
    std::array<Answer, 2> answers;
    for (int32_t i = 0; i < 2; ++i)
      engine->add(request_of(i, 30), gather_into(answers[static_cast<size_t>(i)]));
    runner->finishes_left = finishes;
    try {
      while (engine->step()) {
      }
      FAIL() << "it was not noticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDevice);
      engine->end_all(FinishReason::kError, error.what());
    }
    for (const Answer& answer : answers) {
      EXPECT_EQ(answer.finish, FinishReason::kError);
      EXPECT_EQ(answer.tokens.size(), static_cast<size_t>(finishes));
    }
    EXPECT_EQ(engine->pool().held_pages(), 0);
    Answer again;  // a stand-in is found again
    engine->add(request_of(7, 20), gather_into(again));
    run_all();
    EXPECT_EQ(again.ids(), expected(request_of(7, 20)));
  }
}

// What a step gave is lost with a sink that throws; its tokens are computed once more.
TEST_F(Launched, ASinkThatThrowsLosesNoTokenOfOthers) {
  Answer answer;
  const Request request = request_of(1, 20);
  int events = 0;
  engine->add(request, gather_into(answer));
  engine->add(request_of(2, 20), [&](const Event&) {
    if (++events == 5) throw std::runtime_error("a sink's mistake");
  });
  int thrown = 0;
  for (bool more = true; more;) try {
      more = engine->compute();
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  engine->deliver();
  EXPECT_EQ(thrown, 1);
  EXPECT_EQ(answer.ids(), expected(request));
  EXPECT_EQ(engine->pool().held_pages(), 0);
}

}  // namespace
}  // namespace flagscale::engine::launch_test
