// Steps that are planned while the one before them computes. That answers stay right when sequences end, are
// cancelled or run out of pages meanwhile is shown by RandomLoad (schedule_test.cc).
#include <gtest/gtest.h>

#include <array>
#include <random>

#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/hash_runner_test_support.h"

namespace flagscale::engine {
namespace {

constexpr int64_t kTokens = 24;
using Parts = std::vector<std::array<int64_t, 4>>;  // of a step: first, tokens, pages, rows

struct Course {
  std::vector<Parts> steps;
  std::vector<Answer> answers;
  Stats stats;
};

Request random_request(std::mt19937& random, int tokens) {
  Request request;
  for (auto i = static_cast<int64_t>(random() % 60); i >= 0; --i)
    request.prompt.push_back(static_cast<int32_t>(random() % kTokens));
  request.sampling.temperature = 0;
  request.sampling.max_tokens = tokens;
  return request;
}

// 12 requests, 8 of them at once; some come while others compute.
Course course_of(bool ahead, int threads, int stop_token = -1) {
  RunnerOptions options;
  options.max_tokens = 40, options.max_sequences = 8, options.max_length = 160, options.threads = threads;
  auto runner = std::make_unique<testing::HashRunner>(kTokens, options);
  Course course;
  runner->observe = [&](std::span<const StepChunk> chunks) {
    Parts parts;
    for (const StepChunk& c : chunks)
      parts.push_back(
          {c.first, static_cast<int64_t>(c.ids.size()), static_cast<int64_t>(c.pages->size()), c.rows});
    course.steps.push_back(parts);
  };
  EngineOptions engine_options;
  engine_options.plan_ahead = ahead;
  Engine engine(std::move(runner), engine_options);
  std::mt19937 random(7);
  course.answers.resize(12);
  for (size_t i = 0; i < course.answers.size(); ++i) {
    Request request = random_request(random, 3 + static_cast<int>(random() % 40));
    if (stop_token >= 0) request.sampling.stop_ids = {stop_token};
    engine.add(std::move(request), gather_into(course.answers[i]));
    if (i % 3 == 2) engine.step();
  }
  while (engine.step()) {
  }
  EXPECT_EQ(engine.pool().held_pages(), 0);
  course.stats = engine.stats();
  return course;
}

class Ahead : public ::testing::TestWithParam<int> {};

TEST_P(Ahead, IsTheStepThatWouldHaveBeenPlannedAfterwards) {
  const Course ahead = course_of(true, GetParam()), after = course_of(false, GetParam());
  EXPECT_EQ(ahead.steps, after.steps);
  EXPECT_EQ(after.stats.steps_planned_ahead, 0);
  EXPECT_GT(ahead.stats.steps_planned_ahead, ahead.stats.steps * 8 / 10);
  for (size_t i = 0; i < ahead.answers.size(); ++i) EXPECT_EQ(ahead.answers[i].ids(), after.answers[i].ids());
}

TEST_P(Ahead, WhoEndsBeforeItsLengthIsLeftOut) {
  const Course ahead = course_of(true, GetParam(), 5), after = course_of(false, GetParam(), 5);
  size_t early = 0;
  for (size_t i = 0; i < ahead.answers.size(); ++i) {
    EXPECT_EQ(ahead.answers[i].ids(), after.answers[i].ids());
    EXPECT_EQ(ahead.answers[i].finish, after.answers[i].finish);
    early += ahead.answers[i].finish == FinishReason::kStop;
  }
  EXPECT_GT(early, 0u);
  EXPECT_GT(ahead.stats.steps_planned_ahead, 0);
  EXPECT_EQ(ahead.stats.generation_tokens, after.stats.generation_tokens);
}

// Sinks are called beside the next step's model, or by whoever asks before.
TEST_P(Ahead, TellsWhatAStepGaveBesideTheNextOne) {
  RunnerOptions options;
  options.max_tokens = 40, options.max_sequences = 8, options.max_length = 160, options.threads = GetParam();
  auto runner = std::make_unique<testing::HashRunner>(kTokens, options);
  Engine engine(std::move(runner), {});
  Request request;
  request.prompt = {1, 2, 3}, request.sampling.temperature = 0, request.sampling.max_tokens = 4;
  std::array<Answer, 2> answers;
  engine.add(request, gather_into(answers[0]));
  const uint64_t second = engine.add(request, gather_into(answers[1]));
  for (size_t step = 0; step < 2; ++step) {
    EXPECT_TRUE(engine.compute());
    for (const Answer& answer : answers) EXPECT_EQ(answer.tokens.size(), step);
  }
  engine.cancel(second, 0);
  for (const Answer& answer : answers) EXPECT_EQ(answer.tokens.size(), 2u);
  EXPECT_EQ(answers[1].finish, FinishReason::kCancelled);
  while (engine.has_work()) engine.compute();
  EXPECT_EQ(answers[0].tokens.size(), 3u);
  EXPECT_FALSE(engine.deliver());
  EXPECT_EQ(answers[0].tokens.size(), 4u);
  EXPECT_EQ(answers[0].finish, FinishReason::kLength);
  EXPECT_EQ(engine.ended().size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Threads, Ahead, ::testing::Values(1, 2));

}  // namespace
}  // namespace flagscale::engine
