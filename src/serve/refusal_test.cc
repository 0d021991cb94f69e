// What a server refuses, and that it goes on: malformed requests, limits, stalls, stopping.

#include <gtest/gtest.h>

#include <future>

#include "base/error.h"
#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

using namespace std::chrono_literals;

void expect_refusal(const TestServer& server, const std::string& path, const std::string& body, int status,
                    const std::string& param = "") {
  const net::Response response = server.send("POST", path, body);
  EXPECT_EQ(response.status, status) << body.substr(0, 300) << "\n" << response.body.substr(0, 500);
  const TestJson json = TestJson::parse(response.body, nullptr, false);
  ASSERT_TRUE(json.is_object() && json.contains("error")) << response.body;
  const TestJson& error = json["error"];
  EXPECT_TRUE(error["message"].is_string() && error["type"].is_string() && error.contains("code") &&
              error.size() == 4)
      << response.body;
  if (!param.empty()) {
    EXPECT_EQ(error["param"], param) << response.body;
  }
}

TEST(Refusals, MalformedJsonIs400) {
  TestServer server;
  for (const std::string body :
       {"{", "nonsense", "[]", "\"text\"", "1", "null", "{\"a\":}", "{\"a\": NaN}", "{\"a\": 1e999}",
        "{\"prompt\": \"\\ud800\"}", "{\"prompt\": \"\xff\"}", "{\"prompt\": \"a\"} trailing"})
    for (const char* path :
         {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"})
      expect_refusal(server, path, body, 400);
  std::string deep = std::string(60'000, '[') + std::string(60'000, ']');
  expect_refusal(server, "/v1/completions", "{\"prompt\": " + deep + "}", 400);
  std::string nested;
  for (int i = 0; i < 60'000; ++i) nested += "{\"a\":";
  expect_refusal(server, "/v1/chat/completions", nested, 400);
  std::string keys = "{\"prompt\": \"a\"";
  for (int i = 0; i < 5000; ++i) keys += ",\"k" + std::to_string(i) + "\":1";
  expect_refusal(server, "/v1/completions", keys + "}", 422);
  EXPECT_EQ(server.post("/v1/completions", completion("ok"))["choices"][0]["text"], "ok");
}

TEST(Refusals, WrongTypesAndRangesNameTheField) {
  TestServer server;
  const std::vector<std::pair<std::string, TestJson>> cases = {{"temperature", -1},
                                                               {"temperature", "hot"},
                                                               {"top_p", 0},
                                                               {"top_p", 1.5},
                                                               {"top_k", -2},
                                                               {"top_k", 1.5},
                                                               {"min_p", 2},
                                                               {"n", 0},
                                                               {"n", -5},
                                                               {"n", 1.5},
                                                               {"n", "2"},
                                                               {"max_tokens", -1},
                                                               {"max_tokens", 1e30},
                                                               {"max_tokens", true},
                                                               {"presence_penalty", 3},
                                                               {"frequency_penalty", -2.5},
                                                               {"repetition_penalty", 0},
                                                               {"seed", "x"},
                                                               {"seed", 1e300},
                                                               {"stop", 5},
                                                               {"stop", {1}},
                                                               {"stop", ""},
                                                               {"stop_token_ids", {-1}},
                                                               {"stop_token_ids", {9999}},
                                                               {"logit_bias", {{"x", 1}}},
                                                               {"logit_bias", {{"5", 101}}},
                                                               {"logit_bias", {{"9999", 1}}},
                                                               {"logit_bias", {1}},
                                                               {"stream", "yes"},
                                                               {"stream_options", 1},
                                                               {"response_format", "json"},
                                                               {"response_format", {{"type", "xml"}}},
                                                               {"allowed_token_ids", TestJson::array()},
                                                               {"prompt_logprobs", -1},
                                                               {"prompt_logprobs", 100},
                                                               {"priority", 0.5},
                                                               {"use_beam_search", true},
                                                               {"temperature", 1e300},
                                                               {"top_p", 1e-300},
                                                               {"repetition_penalty", 1e-300},
                                                               {"truncate_prompt_tokens", 0},
                                                               {"truncate_prompt_tokens", -2},
                                                               {"guided_json", "{"},
                                                               {"guided_json", {{"type", "banana"}}},
                                                               {"guided_regex", "(unclosed"},
                                                               {"guided_grammar", "no grammar"},
                                                               {"cache_salt", 3}};
  for (const auto& [field, value] : cases) {
    expect_refusal(server, "/v1/completions", completion("x", {{field, value}}).dump(), 400, field);
    expect_refusal(server, "/v1/chat/completions", chat("x", {{field, value}}).dump(), 400, field);
  }
  expect_refusal(server, "/v1/completions", completion("x", {{"structured_outputs", {{"jsn", 1}}}}).dump(),
                 400, "structured_outputs.jsn");
  // No text obeys these, which shows at the first token.
  for (const TestJson& endless :
       {TestJson{{"guided_json", {{"$ref", "#"}}}}, TestJson{{"guided_grammar", "start: a\na: a \"x\""}}}) {
    expect_refusal(server, "/v1/completions", completion("x", endless).dump(), 400, endless.begin().key());
    const Stream stream = server.stream("/v1/completions", completion("x", endless));
    ASSERT_FALSE(stream.chunks.empty());
    EXPECT_EQ(stream.chunks[0]["error"]["param"], endless.begin().key()) << stream.chunks[0];
  }
  for (const TestJson& choice : {TestJson("auto"), TestJson("required")})
    expect_refusal(
        server, "/v1/chat/completions",
        chat("x", {{"tool_choice", choice},
                   {"tools", {{{"function", {{"name", "f"}, {"parameters", {{"type", "banana"}}}}}}}}})
            .dump(),
        400, "tools");
  for (const TestJson& extra : {TestJson{{"tools", {1}}}, TestJson{{"chat_template", "x"}},
                                TestJson{{"chat_template_kwargs", {{"messages", 1}}}}})
    expect_refusal(server, "/tokenize", chat("x", extra).dump(), 400, extra.begin().key());
  for (const char* messages :
       {"5", "[]", "[1]", "[{}]", R"([{"role": 1, "content": "x"}])", R"([{"role": "user"}])",
        R"([{"role": "user", "content": 5}])", R"([{"role": "user", "content": [{"type": "image_url"}]}])",
        R"([{"role": "assistant", "tool_calls": 3}])",
        R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}])"})
    expect_refusal(server, "/v1/chat/completions", std::string("{\"messages\": ") + messages + "}", 400,
                   "messages");
  for (const char* prompt :
       {"5", "[]", "[[]]", "[\"a\", 1]", "[1, \"a\"]", "[-1]", "[99999]", "[1e10]", "{}", "true"})
    expect_refusal(server, "/v1/completions", std::string("{\"prompt\": ") + prompt + "}", 400, "prompt");
  for (const char* tools : {"5", "[1]", "[{}]", R"([{"type": "function", "function": {}}])",
                            R"([{"type": "other", "function": {"name": "f"}}])"})
    expect_refusal(server, "/v1/chat/completions",
                   R"({"messages": [{"role": "user", "content": "x"}], "tools": )" + std::string(tools) + "}",
                   400, "tools");
  expect_refusal(server, "/v1/chat/completions", chat("x", {{"tool_choice", "required"}}).dump(), 400,
                 "tool_choice");
  expect_refusal(server, "/v1/chat/completions", chat("x", {{"top_logprobs", 2}}).dump(), 400,
                 "top_logprobs");
  expect_refusal(server, "/v1/chat/completions", chat("x", {{"chat_template", "{{ 1 }}"}}).dump(), 400,
                 "chat_template");
  expect_refusal(server, "/v1/chat/completions",
                 chat("x", {{"chat_template_kwargs", {{"messages", 1}}}}).dump(), 400,
                 "chat_template_kwargs");
  expect_refusal(server, "/v1/completions", "{}", 400, "prompt");
  expect_refusal(server, "/v1/completions", completion("x", {{"max_tokens", 0}}).dump(), 400, "max_tokens");
}

TEST(Refusals, AnAnswerOfTooManyLogprobsNamesItsLimit) {
  ServiceConfig config;
  config.max_answer_logprobs = 1000;
  TestServer server(config);
  const std::string prompt(20, 'a');
  const auto many = [&](size_t prompts) {
    return TestJson{{"prompt", std::vector<std::string>(prompts, prompt)}, {"max_tokens", 1}};
  };
  const auto expect = [&](TestJson body, const TestJson& more, const std::string& field) {
    body.update(more);
    const TestJson answer = server.post("/v1/completions", body, field.empty() ? 200 : 400);
    if (field.empty()) return;
    EXPECT_EQ(answer["error"]["param"], field);
    EXPECT_NE(answer["error"]["message"].get<std::string>().find("--max-answer-logprobs"), std::string::npos);
  };
  expect(many(4), {{"prompt_logprobs", 9}}, "");  // 800 of prompts
  expect(many(6), {{"prompt_logprobs", 9}}, "prompt_logprobs");
  expect(many(6), {{"prompt_logprobs", 4}}, "");
  expect(many(6), {{"prompt_logprobs", 4}, {"n", 2}}, "prompt_logprobs");
  expect(many(6), {{"echo", true}, {"logprobs", 9}}, "logprobs");
  expect(many(1), {{"logprobs", 9}, {"max_tokens", 101}}, "logprobs");
  expect(many(6), TestJson::object(), "");
  // A chat that names no length of its answer is cut where its log-probabilities would be too many.
  const TestJson cut = server.post("/v1/chat/completions",
                                   chat(std::string(300, 'a'), {{"logprobs", true}, {"top_logprobs", 19}}));
  EXPECT_EQ(cut["usage"]["completion_tokens"], 50);
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "length");
  const TestJson streamed = completion("abc", {{"logprobs", 9}, {"max_tokens", 101}});
  EXPECT_EQ(server.stream("/v1/completions", streamed).content(), "abc");
}

TEST(Refusals, PromptLogprobsAreNotStreamed) {
  TestServer server;
  const TestJson more = {{"prompt_logprobs", 1}, {"stream", true}};
  expect_refusal(server, "/v1/completions", completion("x", more).dump(), 400, "prompt_logprobs");
  expect_refusal(server, "/v1/chat/completions", chat("x", more).dump(), 400, "prompt_logprobs");
}

TEST(Refusals, AnEmptyTextNamesItsField) {
  TestServer server;
  for (const TestJson& empty : {TestJson(""), TestJson(TestJson::array({TestJson::array({99'999})}))}) {
    expect_refusal(server, "/v1/embeddings", TestJson{{"input", empty}}.dump(), 400, "input");
    expect_refusal(server, "/v1/completions", TestJson{{"prompt", empty}}.dump(), 400, "prompt");
  }
}

TEST(Refusals, LimitsAre422AndLengthIsContextLengthExceeded) {
  TestServer server;
  expect_refusal(server, "/v1/completions", completion("x", {{"n", 129}}).dump(), 422);
  expect_refusal(server, "/v1/completions", completion("x", {{"best_of", 1000}}).dump(), 422);
  expect_refusal(server, "/v1/chat/completions", chat("x", {{"n", 16'384}}).dump(), 422);
  const std::string most =
      server.send("POST", "/v1/completions", completion("x", {{"n", 2'000'000'000}}).dump()).body;
  EXPECT_NE(most.find("at most 128"), std::string::npos) << most;
  expect_refusal(server, "/v1/completions",
                 completion("x", {{"stop", std::vector<std::string>(65, "a")}}).dump(), 422);
  expect_refusal(server, "/v1/completions", completion("x", {{"stop", std::string(2000, 'a')}}).dump(), 422);
  const net::Response response =
      server.send("POST", "/v1/completions", completion(std::string(600, 'a')).dump());
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(TestJson::parse(response.body)["error"]["code"], "context_length_exceeded");
  const std::string unasked =
      server.post("/v1/chat/completions", chat(std::string(600, 'a')), 400)["error"]["message"];
  EXPECT_EQ(unasked.find("requested"), std::string::npos) << "no max_tokens was asked for: " << unasked;
  EXPECT_NE(unasked.find("maximum context length is 512 tokens"), std::string::npos) << unasked;
  expect_refusal(server, "/v1/completions", completion("x", {{"max_tokens", 100'000}}).dump(), 400,
                 "max_tokens");
  expect_refusal(server, "/v1/completions", completion(std::string(9 << 20, 'a')).dump(), 413);
}

TEST(Refusals, RoutesMethodsAndTypes) {
  TestServer server;
  EXPECT_EQ(server.send("GET", "/nothing").status, 404);
  EXPECT_EQ(server.send("GET", "/v1/chat/completions").status, 405);
  EXPECT_EQ(server.send("DELETE", "/v1/models").status, 405);
  EXPECT_EQ(server.client().send("POST", "/v1/completions", "{}", {{"Content-Type", "text/plain"}}).status,
            415);
  expect_refusal(server, "/v1/completions", completion("x", {{"model", "other"}}).dump(), 404, "model");
  expect_refusal(server, "/v1/load_lora_adapter", R"({"lora_name": "../../etc/passwd"})", 400);
  EXPECT_EQ(server.post("/v1/completions", completion("x", {{"some_new_field", {1, 2}},
                                                            {"user", "me"},
                                                            {"stop", nullptr}}))["choices"][0]["text"],
            "x");
}

TEST(Health, TellsOfAStall) {
  TestServer server;
  *server.step_ms = 2600;
  auto answer = std::async(std::launch::async, [&] {
    return server.send("POST", "/v1/completions", completion("", {{"max_tokens", 1}}).dump()).status;
  });
  std::this_thread::sleep_for(2000ms);
  EXPECT_EQ(server.send("GET", "/health").status, 503);
  EXPECT_EQ(answer.get(), 200);
  EXPECT_EQ(server.send("GET", "/health").status, 200);
}

TEST(Disconnects, EndTheWork) {
  TestServer server;
  *server.step_ms = 5;
  for (int i = 0; i < 10; ++i) {
    int pieces = 0;
    server.client().stream("POST", "/v1/completions",
                           completion(std::string(200, 'a'), {{"stream", true}, {"max_tokens", 200}}).dump(),
                           {{"Content-Type", "application/json"}},
                           [&](std::string_view) { return ++pieces < 3; });
  }
  const auto running = [&] {
    const std::string metrics = server.send("GET", "/metrics").body;
    const size_t at = metrics.find("vllm:num_requests_running{");
    return metrics.substr(metrics.find("} ", at) + 2, 1);
  };
  for (int i = 0; i < 100 && (running() != "0" || server.get("/load")["server_load"] != 0); ++i)
    std::this_thread::sleep_for(10ms);
  EXPECT_EQ(running(), "0");
  EXPECT_EQ(server.get("/load")["server_load"], 0);
}

TEST(Stopping, LetsAnswersEnd) {
  TestServer server;
  *server.step_ms = 10;
  auto answer = std::async(std::launch::async, [&] {
    return server.stream("/v1/completions", completion("twenty characters ok")).content();
  });
  std::this_thread::sleep_for(100ms);
  server.server().drain(20);
  EXPECT_EQ(answer.get(), "twenty characters ok");
  EXPECT_THROW(server.send("GET", "/health"), Error);
}

}  // namespace
}  // namespace flagscale::serve::testing
