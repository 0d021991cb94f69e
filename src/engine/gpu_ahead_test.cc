// On a GPU steps are launched before the tokens of the one before them are known: answers are those of an
// engine that waits for each.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "engine/answer.h"
#include "engine/engine.h"

namespace flagscale::engine::gpu_ahead_test {
namespace {

const std::string kModels = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

std::unique_ptr<Runner> runner_of(const std::string& model, int sequences) {
  std::ostringstream text;
  text << std::ifstream(kModels + model + "/config.json").rdbuf();
  RunnerOptions options;
  options.device = DeviceKind::kCuda;
  options.weights.packing = op::Packing::kBF16;
  options.max_tokens = 64, options.max_sequences = sequences, options.max_length = 100, options.threads = 2;
  options.pages = 40;
  return std::make_unique<Runner>(model::parse_config(text.str()), *io::open_weights(kModels + model),
                                  options);
}

Request request_of(int32_t i) {
  Request request;
  for (int32_t t = 0; t < 20 + i; ++t) request.prompt.push_back(3 + (t * t + i * 5) % 41);
  SamplingParams& p = request.sampling;
  p.seed = static_cast<uint64_t>(i);
  p.max_tokens = 10 + i * 7 % 40;
  p.temperature = i % 4 == 0 ? 0 : 0.9f;
  if (i % 4 == 1) p.top_p = 0.9f, p.top_k = 30;
  if (i % 4 == 2) p.min_p = 0.01f;
  for (int32_t id = 0; i % 3 == 1 && id < 12; ++id) p.stop_ids.push_back(id * 7 + i);
  return request;
}

struct Course {
  std::vector<Answer> answers;
  Stats stats;
};

// Twenty requests, six at once; some come while others run, and two are cancelled then. `change` makes what
// the host decides part of it.
Course course_of(const std::string& model, bool ahead, auto&& change) {
  EngineOptions options;
  options.plan_ahead = ahead;
  Engine engine(runner_of(model, 6), options);
  Course course;
  course.answers.resize(20);
  std::vector<uint64_t> ids;
  for (int32_t i = 0; i < 20; ++i) {
    Request request = request_of(i);
    change(i, request.sampling);
    ids.push_back(engine.add(std::move(request), gather_into(course.answers[static_cast<size_t>(i)])));
    if (i % 4 == 3) engine.step(), engine.step();
    if (i == 9) engine.cancel(ids[8]);
    if (i == 15) engine.cancel(ids[2], 0);
  }
  while (engine.step()) {
  }
  EXPECT_EQ(engine.pool().held_pages(), 0);
  course.stats = engine.stats();
  return course;
}

class AheadOnGpu : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (choose_device("auto") != DeviceKind::kCuda)
      GTEST_SKIP() << "this machine has no GPU, or this program no kernels for it";
  }
  void compare(auto&& change, int64_t least) {
    const Course ahead = course_of(GetParam(), true, change), after = course_of(GetParam(), false, change);
    EXPECT_GE(ahead.stats.steps_launched_ahead, least);
    EXPECT_EQ(after.stats.steps_launched_ahead, 0);
    for (size_t i = 0; i < ahead.answers.size(); ++i) {
      const Answer &a = ahead.answers[i], &b = after.answers[i];
      if (i == 2 || i == 8) continue;  // cancelled, after as many tokens as there were
      EXPECT_EQ(a.ids(), b.ids()) << i;
      EXPECT_EQ(a.finish, b.finish) << i;
      for (size_t t = 0; t < std::min(a.tokens.size(), b.tokens.size()); ++t)
        EXPECT_EQ(a.tokens[t].logprob, b.tokens[t].logprob) << i;
    }
    const auto stopped = std::ranges::count_if(
        ahead.answers, [](const Answer& answer) { return answer.finish == FinishReason::kStop; });
    EXPECT_GT(stopped, 0) << "or stopping is not tested";
  }
};

TEST_P(AheadOnGpu, TokensAreThoseOfStepsThatWait) {
  compare([](int32_t, SamplingParams&) {}, 30);
}

// Some rows' logits come to the host: for as long as they do, steps wait.
TEST_P(AheadOnGpu, TokensAreTheSameWhereTheHostDecidesSome) {
  compare(
      [](int32_t i, SamplingParams& p) {
        if (i == 5) p.logprobs = 2, p.max_tokens = 6;
        if (i == 11) p.frequency_penalty = 0.5f, p.max_tokens = 8;
        if (i == 14) p.min_tokens = 4;
      },
      10);
}

// A request's tokens are those that it draws alone, one step after another.
TEST_P(AheadOnGpu, WhoIsAloneDrawsTheSame) {
  const Course among = course_of(GetParam(), true, [](int32_t, SamplingParams&) {});
  Engine engine(runner_of(GetParam(), 1));
  for (const int32_t i : {0, 1, 7, 19}) {
    Answer answer;
    engine.add(request_of(i), gather_into(answer));
    while (engine.step()) {
    }
    EXPECT_EQ(answer.ids(), among.answers[static_cast<size_t>(i)].ids()) << i;
  }
  EXPECT_GT(engine.stats().steps_launched_ahead, engine.stats().steps / 2);
}

INSTANTIATE_TEST_SUITE_P(Models, AheadOnGpu, ::testing::Values("llama3", "qwen3", "qwen3_moe"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace flagscale::engine::gpu_ahead_test
