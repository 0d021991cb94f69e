#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/scripted_model_test_support.h"

namespace flagscale::engine {
namespace {

using testing::ScriptedModel;

Request ask(const text::Tokenizer& tokenizer, const std::string& prompt, int32_t eos) {
  Request request;
  request.prompt = tokenizer.encode(prompt);
  request.sampling.max_tokens = 50;
  request.sampling.stop_ids = {eos};
  return request;
}

class Scripted : public ::testing::Test {
 protected:
  std::string answer(Request request) {
    Answer result;
    engine.add(std::move(request), gather_into(result));
    while (engine.step()) {
    }
    EXPECT_EQ(engine.pool().held_pages(), 0);
    last = result;
    return tokenizer->decode(result.ids());
  }
  static EngineOptions options(const text::Tokenizer& tokenizer) {
    EngineOptions options;
    options.tokenizer = &tokenizer;
    options.speculation = {3, 3, 1};
    return options;
  }

  ScriptedModel model{
      {{"", {"Hel", "lo", "!"}}, {"2", {"Good", " day"}}, {"3", {"{\"", "a", "\":", "1", "}", " and more"}}}};
  std::unique_ptr<text::Tokenizer> tokenizer = model.tokenizer();
  Engine engine{model.runner(), options(*tokenizer)};
  Answer last;
};

TEST_F(Scripted, SaysWhatItIsTold) {
  EXPECT_EQ(answer(ask(*tokenizer, "Say it", model.eos)), "Hello!");
  EXPECT_EQ(last.finish, FinishReason::kStop);
  EXPECT_EQ(answer(ask(*tokenizer, "number 2", model.eos)), "Good day");
  Request sampled = ask(*tokenizer, "Say it", model.eos);
  sampled.sampling.temperature = 1;
  EXPECT_EQ(answer(sampled), "Hello!");
}

TEST_F(Scripted, AGrammarRulesOverTheModelAndEndsTheText) {
  Request request = ask(*tokenizer, "number 3", model.eos);
  request.grammar = {
      "json_schema",
      R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false})"};
  EXPECT_EQ(answer(request), "{\"a\":1}");
  EXPECT_EQ(last.finish, FinishReason::kStop);
  request.grammar = {"regex", "(yes|no)"};
  const std::string text = answer(request);
  EXPECT_TRUE(text == "yes" || text == "no") << text;
  request.grammar = {"lark", "start: \"Good\" \" day\" \"s\""};
  EXPECT_EQ(answer(request), "Good days");
  request.grammar = {"json_object", ""};
  request.sampling.max_tokens = 3;
  answer(request);
  EXPECT_EQ(last.finish, FinishReason::kLength);
}

TEST_F(Scripted, ChoicesHaveGrammarsOfTheirOwn) {
  Request request = ask(*tokenizer, "number 2", model.eos);
  request.grammar = {"regex", "[a-z]{3}(Good)?[0-9]{2}"};
  request.n = 3;
  request.sampling.temperature = 5;
  std::vector<Answer> answers(3);
  engine.add(request, gather_into(answers));
  while (engine.step()) {
  }
  for (const Answer& a : answers) {
    const std::string text = tokenizer->decode(a.ids());
    EXPECT_GE(text.size(), 5u);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(text[i] >= 'a' && text[i] <= 'z') << text;
    EXPECT_TRUE(text.back() >= '0' && text.back() <= '9') << text;
  }
}

TEST_F(Scripted, AGrammarKeepsItsPlaceWhenItsSequenceIsPreempted) {
  Request request = ask(*tokenizer, "abcdefgh", model.eos);
  request.grammar = {"regex", "[a-f]{44}"};
  request.sampling.temperature = 4;
  const std::string alone = answer(request);
  EXPECT_EQ(alone.size(), 44u);
  for (const int threads :
       {1, available_cores()}) {  // with a core to spare, where there are two, and without
    RunnerOptions small;
    small.max_length = 64;
    small.pages = 5;
    small.threads = threads;
    Engine crowded(model.runner(small), options(*tokenizer));
    EXPECT_EQ(crowded.runner().spares_a_core(), threads < available_cores());
    std::vector<Answer> answers(3);
    for (Answer& each : answers) crowded.add(request, gather_into(each));
    while (crowded.step()) {
    }
    EXPECT_GT(crowded.stats().preemptions, 0);
    for (const Answer& each : answers) EXPECT_EQ(tokenizer->decode(each.ids()), alone);
  }
}

TEST_F(Scripted, BadAndCostlyGrammarsAreRefusedWhereTheyAreSubmitted) {
  const std::string deep = std::string(3000, '(') + "a" + std::string(3000, ')');
  for (const Grammar& grammar : std::vector<Grammar>{{"regex", "("},
                                                     {"lark", "start: missing"},
                                                     {"json_schema", "{"},
                                                     {"json_schema", "{\"type\": 3}"},
                                                     {"regex", deep},
                                                     {"regex", std::string(600000, 'a')},
                                                     {"poem", "x"}}) {
    Request request = ask(*tokenizer, "x", model.eos);
    request.grammar = grammar;
    EXPECT_THROW(engine.prepare(request, [](const Event&) {}), Error)
        << grammar.kind << " " << grammar.text.substr(0, 40);
  }
}

}  // namespace
}  // namespace flagscale::engine
