// Through HTTP, the engine and a real model whose weights make it say what a test wants
// (engine/scripted_model_test_support.h), where its tokens end wherever that is awkward.

#include <gtest/gtest.h>

#include <thread>

#include "engine/scripted_model_test_support.h"
#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

using engine::testing::Script;
using engine::testing::ScriptedModel;

// A server of that model; a prompt's last byte says which script it answers with.
TestServer serve(const std::vector<Script>& scripts, float sharpness = 20,
                 engine::Speculation speculation = {}) {
  const ScriptedModel scripted(scripts, kTemplate, sharpness);
  engine::LoadedModel model;
  model.path = "weights";
  model.config = scripted.config;
  model.tokenizer = scripted.tokenizer();
  model.stop_ids = {scripted.eos};
  engine::RunnerOptions options;
  options.max_length = 1024, options.max_sequences = 8, options.threads = 1;
  engine::EngineOptions engine_options;
  engine_options.tokenizer = model.tokenizer.get();
  engine_options.speculation = speculation;
  auto engine = std::make_unique<engine::Engine>(scripted.runner(options), engine_options);
  return TestServer({}, std::move(model), std::move(engine));
}

TestJson ask(const std::string& prompt, TestJson more = TestJson::object()) {
  TestJson body = {{"prompt", prompt}, {"temperature", 0}, {"max_tokens", 64}};
  body.update(more);
  return body;
}

const std::vector<Script> kHello = {{"#", {"Hel", "lo", " w", "orl", "d! ", "The", " end"}}};
const std::string kText = "Hello world! The end";

TEST(Weights, StopStringsAreCutWhereverTokensEnd) {
  const TestServer server = serve(kHello);
  EXPECT_EQ(server.post("/v1/completions", ask("#"))["choices"][0]["text"], kText);
  for (size_t begin = 0; begin < kText.size(); begin += 2)
    for (size_t size = 1; begin + size <= kText.size(); size += 3) {
      const std::string stop = kText.substr(begin, size);
      const std::string expected = kText.substr(0, kText.find(stop));
      const TestJson choice = server.post("/v1/completions", ask("#", {{"stop", stop}}))["choices"][0];
      EXPECT_EQ(choice["text"], expected) << stop;
      EXPECT_EQ(choice["finish_reason"], "stop");
      EXPECT_EQ(choice["stop_reason"], stop);
      EXPECT_EQ(server.stream("/v1/completions", ask("#", {{"stop", stop}})).content(), expected) << stop;
    }
}

TEST(Weights, AStreamHoldsNoPartOfACharacter) {
  const TestServer server = serve({{"#", {"caf", "\xc3", "\xa9", " ", "\xf0", "\x9f", "\x98", "\x80", "!"}}});
  const Stream stream = server.stream("/v1/completions", ask("#"));  // each chunk was read as JSON: UTF-8
  EXPECT_EQ(stream.content(), "caf\xc3\xa9 \xf0\x9f\x98\x80!");
  for (const TestJson& chunk : stream.chunks)
    for (const TestJson& choice : chunk["choices"])
      EXPECT_EQ(choice["text"].get<std::string>().find("\xef\xbf\xbd"), std::string::npos);
  EXPECT_TRUE(stream.done);
}

TEST(Weights, CallsAndThoughtsAreFoundAcrossTokens) {
  const TestServer server =
      serve({{"\n",
              {"<th", "ink>", "so it", " is", "</thi", "nk>", "\n\n", "<tool", "_call>\n{\"na", "me\": \"",
               "look\", \"argu", "ments\": {\"ci", "ty\": \"Par", "is\"}", "}\n", "</too", "l_call>"}}});
  const TestJson tool = {
      {"type", "function"},
      {"function",
       {{"name", "look"},
        {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}}}};
  const TestJson body = {{"messages", {{{"role", "user"}, {"content", "x"}}}},
                         {"tools", {tool}},
                         {"temperature", 0},
                         {"max_tokens", 64}};
  const TestJson choice = server.post("/v1/chat/completions", body)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"]["reasoning_content"], "so it is");
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1u) << choice;
  const TestJson call = choice["message"]["tool_calls"][0]["function"];
  EXPECT_EQ(call["name"], "look");
  EXPECT_EQ(TestJson::parse(call["arguments"].get<std::string>()), TestJson({{"city", "Paris"}}));
  std::string thought, arguments;
  for (const TestJson& chunk : server.stream("/v1/chat/completions", body).chunks) {
    const TestJson delta = chunk["choices"][0]["delta"];
    thought += delta.value("reasoning_content", "");
    for (const TestJson& part : delta.value("tool_calls", TestJson::array()))
      arguments += part["function"].value("arguments", "");
  }
  EXPECT_EQ(thought, "so it is");
  EXPECT_EQ(TestJson::parse(arguments), TestJson({{"city", "Paris"}}));
}

// What a token was likely when it was drawn is what it is likely as a part of a prompt.
TEST(Weights, LogProbabilitiesAreThoseOfTheTextAsAPrompt) {
  const TestServer server = serve(kHello, 4);
  const TestJson drawn = server.post("/v1/completions", ask("#", {{"logprobs", 3}}))["choices"][0];
  EXPECT_EQ(drawn["text"], kText);
  const std::vector<double> chosen = drawn["logprobs"]["token_logprobs"];
  ASSERT_EQ(chosen.size(), 8u);  // and the end
  const TestJson scored =
      server.post("/v1/completions",
                  ask("#" + kText, {{"logprobs", 3}, {"echo", true}, {"max_tokens", 1}}))["choices"][0];
  const TestJson all = scored["logprobs"]["token_logprobs"];
  ASSERT_EQ(all.size(), 9u);
  for (size_t i = 0; i < chosen.size(); ++i) {
    EXPECT_EQ(all[i + 1], chosen[i]) << i;
    EXPECT_LT(chosen[i], -1e-4);  // not all but certain
    EXPECT_EQ(drawn["logprobs"]["top_logprobs"][i].size(), 3u);
  }
}

TEST(Weights, SpeculationChangesNothing) {
  const TestServer plain = serve(kHello), guessing = serve(kHello, 20, {4, 3, 1});
  for (const TestJson& more : {TestJson::object(), TestJson{{"stop", "rld"}}, TestJson{{"max_tokens", 4}}})
    EXPECT_EQ(guessing.post("/v1/completions", ask(kText + " #", more))["choices"],
              plain.post("/v1/completions", ask(kText + " #", more))["choices"]);
  EXPECT_GT(guessing.metric("vllm:spec_decode_num_accepted_tokens_total"), 0);
}

TEST(Weights, ABrokenStreamGivesItsPagesBack) {
  std::vector<std::string> pieces;
  for (int i = 0; i < 900; ++i) pieces.push_back("word " + std::to_string(i) + ", ");
  const TestServer server = serve({{"#", pieces}});
  for (int after = 1; after < 6; ++after)
    server.client().stream("POST", "/v1/completions",
                           ask("#", {{"stream", true}, {"max_tokens", 900}}).dump(),
                           {{"Content-Type", "application/json"}},
                           [&, left = after](std::string_view) mutable { return --left > 0; });
  for (int i = 0; i < 500 && server.metric("vllm:kv_cache_usage_perc") > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(server.metric("vllm:kv_cache_usage_perc"), 0);
  EXPECT_EQ(server.metric("vllm:num_requests_running"), 0);
  EXPECT_EQ(server.post("/v1/completions", ask("#", {{"max_tokens", 2}}))["choices"][0]["text"],
            "word 0, word 1, ");
}

}  // namespace
}  // namespace flagscale::serve::testing
