#include "engine/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/hash_runner_test_support.h"

namespace flagscale::engine {
namespace {

constexpr int64_t kPage = 16;

StepPlan plan(const std::vector<Progress>& running, Budget budget) {
  StepPlan plan;
  plan_step(running, kPage, budget, plan);
  return plan;
}

TEST(Schedule, TokensThatGenerateGoFirstPromptsFillTheRest) {
  const StepPlan p = plan({{0, 100, 0}, {49, 1, 4}, {10, 20, 1}, {7, 0, 1}}, {60, 64, 100});
  ASSERT_EQ(p.chunks.size(), 2u);
  EXPECT_EQ(p.chunks[0].sequence, 1);
  EXPECT_EQ(p.chunks[0].count, 1);
  EXPECT_EQ(p.chunks[1].sequence, 0);
  EXPECT_EQ(p.chunks[1].count, 59);
}

TEST(Schedule, DraftsTakeWhatTheOthersThatGenerateLeave) {
  const StepPlan p = plan({{20, 1, 2, 4}, {30, 1, 2, 4}, {40, 1, 3}}, {6, 64, 100});
  ASSERT_EQ(p.chunks.size(), 3u);
  EXPECT_EQ(p.chunks[0].drafts, 3);
  EXPECT_EQ(p.chunks[1].drafts, 0);
  EXPECT_EQ(p.chunks[2].count, 1);
}

TEST(Schedule, TheLastGivesWayWhenPagesRunOut) {
  EXPECT_EQ(plan({{32, 1, 2}, {40, 1, 3}, {10, 1, 1}}, {60, 64, 0}).preempt, 2);
  const StepPlan last = plan({{40, 1, 3}, {32, 1, 2}}, {60, 64, 0});
  EXPECT_EQ(last.preempt, -1);
  EXPECT_TRUE(last.stalled);
  ASSERT_EQ(last.chunks.size(), 1u);
  EXPECT_EQ(last.chunks[0].sequence, 0);
  EXPECT_EQ(plan({{40, 1, 3}, {0, 100, 0}}, {200, 64, 2}).chunks[1].count, 32)
      << "as much of a prompt as there are pages for";
}

TEST(Schedule, PromptsWhoseLogitsAreWantedAreCutByTheRows) {
  const StepPlan p = plan({{0, 100, 0, 0, true}, {5, 1, 1}}, {256, 20, 100});
  EXPECT_EQ(p.chunks[0].sequence, 1);
  EXPECT_EQ(p.chunks[1].count, 19);
}

TEST(Schedule, OneStartsOnlyWhenItsWholeTextFitsBesideTheOthers) {
  EXPECT_EQ(plan_start({0, 100}, 0, 0, 3, kPage, {64, 8, 9}), 0);
  EXPECT_EQ(plan_start({0, 100}, 0, 0, 2, kPage, {64, 8, 9}), 64);
  EXPECT_EQ(plan_start({0, 100}, 32, 0, 3, kPage, {64, 8, 9}), 64) << "two pages found, in use elsewhere";
  EXPECT_EQ(plan_start({0, 100}, 32, 2, 3, kPage, {64, 8, 9}), 0) << "two pages found, free so far";
  EXPECT_EQ(plan_start({0, 100}, 0, 0, 0, kPage, {64, 8, 7}), 64);
}

// Random requests arrive, are cancelled and run out of pages; every answer is the one that an empty machine
// gives.
class RandomLoad : public ::testing::TestWithParam<uint32_t> {};

TEST_P(RandomLoad, EveryAnswerIsRightAndEverythingReturnsToZero) {
  constexpr int64_t kVocab = 24;
  std::mt19937 random(GetParam());
  const auto upto = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
  RunnerOptions options;
  options.max_tokens = 8 + upto(60);
  options.max_sequences = 1 + upto(7);
  options.max_length = 120;
  options.max_rows = 0;
  options.pages = 8 + upto(20);
  options.threads = 1 + upto(2);  // with a core to spare, and on a machine of two without one
  auto runner = std::make_unique<testing::HashRunner>(kVocab, options);
  runner->launching = GetParam() % 3 > 0;  // as a GPU: steps are launched ahead too
  EngineOptions engine_options;
  engine_options.prefix_caching = upto(4) != 0;
  engine_options.speculation = {upto(2) * upto(5), 3, 1};  // without it steps are planned ahead
  Engine engine(std::move(runner), engine_options);

  struct Case {
    Request request;
    std::vector<Answer> answers;
    uint64_t id = 0;
    bool cancelled = false;
  };
  std::vector<std::unique_ptr<Case>> cases;
  for (int step = 0; step < 400; ++step) {
    for (int arrivals = step < 250 ? upto(3) : 0; arrivals > 0; --arrivals) {
      auto& c = *cases.emplace_back(std::make_unique<Case>());
      const int32_t shared = upto(4) * 16;  // prompts share beginnings
      for (int32_t i = 0; i < shared; ++i) c.request.prompt.push_back(i % 5);
      for (int32_t i = upto(30); i >= 0; --i) c.request.prompt.push_back(upto(kVocab));
      c.request.sampling.temperature = 0;
      c.request.sampling.max_tokens = upto(4) == 0 ? 0 : 1 + upto(25);
      c.request.sampling.prompt_logprobs = upto(6) == 0 ? 2 : -1;
      c.request.n = upto(5) == 0 ? 3 : 1;
      c.request.priority = upto(3) - 1;
      if (upto(3) == 0) c.request.sampling.stop_ids = {upto(kVocab)};
      c.answers.resize(static_cast<size_t>(c.request.n));
      c.id = engine.add(c.request, gather_into(c.answers));
    }
    if (!cases.empty() && upto(6) == 0) {
      Case& c = *cases[static_cast<size_t>(upto(static_cast<uint32_t>(cases.size())))];
      bool ended = true;
      for (const Answer& answer : c.answers) ended &= answer.finish != FinishReason::kNone;
      c.cancelled |= !ended;
      engine.cancel(c.id);
    }
    engine.step();
  }
  int64_t steps = 0;
  while (engine.step()) ASSERT_LT(++steps, 100000) << "does not end";

  EXPECT_EQ(engine.pool().held_pages(), 0);
  EXPECT_EQ(engine.stats().running + engine.stats().waiting + engine.unstarted(), 0);
  const bool launches = GetParam() % 3 > 0 && engine_options.speculation.draft_tokens == 0;
  EXPECT_EQ(engine.stats().steps_launched_ahead > 0, launches);
  EXPECT_EQ(engine.ended().size(), cases.size());
  for (const auto& c : cases) {
    if (c->cancelled) continue;
    const int count = c->request.sampling.max_tokens;
    auto expected = testing::HashRunner::expected(c->request.prompt, count, kVocab);
    const auto stop = std::ranges::find_first_of(expected, c->request.sampling.stop_ids);
    const bool stops = stop != expected.end();
    if (stops) expected.erase(stop + 1, expected.end());
    for (const Answer& answer : c->answers) {
      EXPECT_EQ(answer.ids(), expected);
      EXPECT_EQ(answer.finish, stops ? FinishReason::kStop : FinishReason::kLength);
    }
    if (c->request.sampling.prompt_logprobs >= 0) {
      EXPECT_EQ(c->answers[0].prompt.size() + 1, c->request.prompt.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomLoad, ::testing::Range(0u, 60u));

// Who came first ends first, though others keep coming; a lower priority value overtakes.
TEST(Scheduling, NobodyStarvesAndPriorityOvertakes) {
  RunnerOptions options;
  options.max_tokens = 16;
  options.max_sequences = 2;
  options.max_length = 64;
  options.pages = 5;
  options.threads = 1;
  Engine engine(std::make_unique<testing::HashRunner>(8, options));
  std::vector<int> order;
  const auto add = [&](int name, int priority) {
    Request request;
    request.prompt.assign(20, name % 8);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 20;
    request.priority = priority;
    engine.add(request, [&order, name](const Event& event) {
      if (event.finish != FinishReason::kNone) order.push_back(name);
    });
  };
  for (int i = 0; i < 6; ++i) add(i, 0);
  for (int i = 0; i < 5; ++i) engine.step();
  add(100, -1);
  while (engine.step()) {
  }
  ASSERT_EQ(order.size(), 7u);
  EXPECT_LE(std::find(order.begin(), order.end(), 100) - order.begin(), 2);
  std::erase(order, 100);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

}  // namespace
}  // namespace flagscale::engine
