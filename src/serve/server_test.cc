// Answers of a whole server: HTTP in, the scripted model behind.

#include <gtest/gtest.h>

#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

TEST(Chat, AnswersAsOpenAiDoes) {
  TestServer server;
  const TestJson answer = server.post("/v1/chat/completions", chat("Hello there!"));
  EXPECT_TRUE(answer["id"].get<std::string>().starts_with("chatcmpl-"));
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["model"], "scripted");
  EXPECT_GT(answer["created"].get<int64_t>(), 1'700'000'000);
  const TestJson& choice = answer["choices"][0];
  EXPECT_EQ(choice["message"],
            TestJson({{"role", "assistant"}, {"content", "Hello there!"}, {"refusal", nullptr}}));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(answer["usage"]["completion_tokens"], 10);  // " the" is one token; the end token counts
  EXPECT_EQ(answer["usage"]["total_tokens"], answer["usage"]["prompt_tokens"].get<int>() + 10);
}

TEST(Chat, StreamsTheSame) {
  TestServer server;
  const std::string text = "Grüße, 世界! \xF0\x9F\x98\x80 done";
  const Stream plain = server.stream("/v1/chat/completions", chat(text));
  EXPECT_TRUE(plain.done);
  EXPECT_EQ(plain.content(), text);
  EXPECT_EQ(plain.chunks[0]["choices"][0]["delta"], TestJson({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(plain.chunks.back()["choices"][0]["finish_reason"], "stop");
  EXPECT_FALSE(plain.chunks[0].contains("usage"));
  const Stream counted =
      server.stream("/v1/chat/completions", chat(text, {{"stream_options", {{"include_usage", true}}}}));
  EXPECT_TRUE(counted.chunks[0]["usage"].is_null());
  EXPECT_TRUE(counted.chunks.back()["choices"].empty());
  EXPECT_GT(counted.chunks.back()["usage"]["completion_tokens"].get<int>(), 20);
}

TEST(Chat, StreamsAsTheServersArgumentsSay) {
  ServiceConfig config;
  config.stream_interval = 5;
  config.enable_force_include_usage = true;
  TestServer server(config);
  const std::string text = "abcdefghijklmno";
  for (const auto& [path, body] :
       {std::pair{"/v1/chat/completions", chat(text)}, {"/v1/completions", completion(text)}}) {
    const Stream stream = server.stream(path, body);
    EXPECT_EQ(stream.content(), text);
    EXPECT_EQ(stream.chunks.back()["usage"]["completion_tokens"], 16) << path;
    // The first token, three times five, the end; beside them the role's chunk and that of the usage.
    EXPECT_LE(stream.chunks.size(), 7u) << path;
  }
}

TEST(Chat, StopStringsAreCutWhereverTokensEnd) {
  TestServer server;
  const TestJson body = chat("one two three END four", {{"stop", {"END", "zzz"}}});
  const TestJson whole = server.post("/v1/chat/completions", body)["choices"][0];
  EXPECT_EQ(whole["message"]["content"], "one two three ");
  EXPECT_EQ(whole["finish_reason"], "stop");
  EXPECT_EQ(whole["stop_reason"], "END");
  EXPECT_EQ(server.stream("/v1/chat/completions", body).content(), "one two three ");
  EXPECT_EQ(server.stream("/v1/chat/completions", chat("ab EN", {{"stop", "END"}})).content(), "ab EN");
  EXPECT_EQ(server.post(
                "/v1/chat/completions",
                chat("a END b", {{"stop", "END"},
                                 {"include_stop_str_in_output", true}}))["choices"][0]["message"]["content"],
            "a END");
  EXPECT_EQ(
      server.post("/v1/chat/completions",
                  chat("xxxxEND", {{"stop", "x"}, {"min_tokens", 3}}))["choices"][0]["message"]["content"],
      "xx");
  EXPECT_EQ(server.post("/v1/chat/completions",
                        chat("abc", {{"stop_token_ids", {'c'}}}))["choices"][0]["stop_reason"],
            'c');
}

TEST(Chat, LengthEndsIt) {
  TestServer server;
  const TestJson answer =
      server.post("/v1/chat/completions", chat("0123456789", {{"max_completion_tokens", 4}}));
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "0123");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["completion_tokens"], 4);
  // Without max_tokens it goes on to the model's end.
  EXPECT_EQ(
      server.post("/v1/chat/completions", chat("abc", {{"ignore_eos", true}}))["choices"][0]["finish_reason"],
      "length");
}

TEST(Chat, SeveralChoices) {
  TestServer server;
  const TestJson answer = server.post("/v1/chat/completions", chat("abc", {{"n", 3}}));
  ASSERT_EQ(answer["choices"].size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(answer["choices"][i]["index"], i);
    EXPECT_EQ(answer["choices"][i]["message"]["content"], "abc");
  }
  const Stream stream = server.stream("/v1/chat/completions", chat("abc", {{"n", 2}}));
  EXPECT_EQ(stream.content(0), "abc");
  EXPECT_EQ(stream.content(1), "abc");
}

// A stop string is found outside the engine, which must hear of it at once.
TEST(Chat, AChoiceThatEndsByAStopStringStopsComputing) {
  TestServer server;
  *server.step_ms = 2;
  const std::string script = "stop " + std::string(100, 'x');
  const TestJson answer =
      server.post("/v1/chat/completions", chat(script, {{"n", 4}, {"stop", "stop"}, {"max_tokens", 150}}));
  EXPECT_EQ(answer["choices"][3]["stop_reason"], "stop");
  const std::string metrics = server.send("GET", "/metrics").body;
  const std::string name = "\nvllm:generation_tokens_total{model_name=\"scripted\",engine=\"0\"} ";
  EXPECT_LT(std::stoi(metrics.substr(metrics.find(name) + name.size())), 4 * 30);
}

TEST(Chat, Logprobs) {
  TestServer server;
  const TestJson choice = server.post("/v1/chat/completions",
                                      chat("é!", {{"logprobs", true}, {"top_logprobs", 2}}))["choices"][0];
  const TestJson& content = choice["logprobs"]["content"];
  ASSERT_EQ(content.size(), 3u);  // two bytes and one
  EXPECT_EQ(content[0]["bytes"], TestJson({0xc3}));
  EXPECT_EQ(content[2]["token"], "!");
  EXPECT_NEAR(content[2]["logprob"].get<double>(), 0, 1e-3);
  EXPECT_EQ(content[2]["top_logprobs"].size(), 2u);
  EXPECT_EQ(content[2]["top_logprobs"][0]["token"], "!");
  const Stream stream = server.stream("/v1/chat/completions", chat("é!", {{"logprobs", true}}));
  size_t tokens = 0;
  for (const TestJson& chunk : stream.chunks)
    if (!chunk["choices"][0]["logprobs"].is_null())
      tokens += chunk["choices"][0]["logprobs"]["content"].size();
  EXPECT_EQ(tokens, 3u);
}

const TestJson kTools = TestJson::parse(
    R"([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}])");

TEST(Chat, ToolCalls) {
  TestServer server;
  const std::string script =
      "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
  const TestJson choice =
      server.post("/v1/chat/completions", chat(script, {{"tools", kTools}}))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"],
            TestJson({{"name", "get_weather"}, {"arguments", "{\"city\": \"Paris\"}"}}));
  EXPECT_TRUE(choice["message"]["tool_calls"][0]["id"].get<std::string>().starts_with("call_"));
  const Stream stream = server.stream("/v1/chat/completions", chat(script, {{"tools", kTools}}));
  std::string arguments, name;
  for (const TestJson& chunk : stream.chunks)
    for (const TestJson& call : chunk["choices"][0]["delta"].value("tool_calls", TestJson::array())) {
      arguments += call["function"]["arguments"];
      name += call["function"].value("name", "");
    }
  EXPECT_EQ(arguments, "{\"city\": \"Paris\"}");
  EXPECT_EQ(name, "get_weather");
  EXPECT_EQ(stream.chunks.back()["choices"][0]["finish_reason"], "tool_calls");
  // Without tools, or with tool_choice none, the text is text.
  EXPECT_EQ(server.post("/v1/chat/completions",
                        chat(script, {{"tools", kTools},
                                      {"tool_choice", "none"}}))["choices"][0]["message"]["content"],
            script);
}

TEST(Chat, ANamedToolIsValidByConstruction) {
  TestServer server;
  const TestJson more = {{"tools", kTools},
                         {"tool_choice", {{"type", "function"}, {"function", {{"name", "get_weather"}}}}}};
  const TestJson choice =
      server.post("/v1/chat/completions", chat("{\"city\": \"Paris\"}", more))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"],
            TestJson({{"name", "get_weather"}, {"arguments", "{\"city\": \"Paris\"}"}}));
}

TEST(Chat, AToolThatTheModelChoosesIsCalledAsItsSchemaHasIt) {
  TestServer server;
  const TestJson tools = TestJson::parse(
      R"([{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":
          {"city":{"enum":["Paris"]}},"required":["city"],"additionalProperties":false}}}])");
  const std::string wrong =
      "<tool_call>\n{\"name\": \"nonsense\", \"arguments\": {\"town\": 5}}\n</tool_call>";
  const TestJson choice = server.post(
      "/v1/chat/completions", chat("Well: " + wrong, {{"tools", tools}, {"max_tokens", 150}}))["choices"][0];
  EXPECT_EQ(choice["message"]["content"].get<std::string>().substr(0, 6), "Well: ") << choice;
  ASSERT_TRUE(choice["message"].contains("tool_calls")) << choice;
  const TestJson& function = choice["message"]["tool_calls"][0]["function"];
  EXPECT_EQ(function["name"], "weather");
  EXPECT_EQ(TestJson::parse(function["arguments"].get<std::string>()), TestJson({{"city", "Paris"}}));
  const TestJson none =
      server.post("/v1/chat/completions", chat("No {call} <tool> here.", {{"tools", tools}}))["choices"][0];
  EXPECT_EQ(none["message"]["content"], "No {call} <tool> here.");
  EXPECT_EQ(none["finish_reason"], "stop");
}

TEST(Chat, Reasoning) {
  TestServer server;
  const TestJson message =
      server.post("/v1/chat/completions", chat("<think>\nHm.\n</think>\n\nYes."))["choices"][0]["message"];
  EXPECT_EQ(message["content"], "Yes.");
  EXPECT_EQ(message["reasoning_content"], "Hm.\n");
  // The prompt has opened the thought, with two tokens that the scripted model counts as written: it goes on
  // after "..".
  const TestJson inside = server.post(
      "/v1/chat/completions",
      chat("..Hm.</think>Yes.", {{"chat_template_kwargs", {{"think", true}}}}))["choices"][0]["message"];
  EXPECT_EQ(inside["reasoning_content"], "Hm.");
  EXPECT_EQ(inside["content"], "Yes.");
}

TEST(Chat, ContinuesTheLastMessage) {
  TestServer server;
  TestJson body = chat("abc");
  body["messages"].push_back({{"role", "assistant"}, {"content", "Well, "}});
  body["continue_final_message"] = true;
  body["add_generation_prompt"] = false;
  // What the model wrote is what is left of its script: "Well, " stands where its first six tokens would.
  const TestJson plain = server.post("/v1/chat/completions", body)["choices"][0];
  EXPECT_EQ(plain["finish_reason"], "stop");
  body["echo"] = true;
  const std::string all = "Well, " + plain["message"]["content"].get<std::string>();
  EXPECT_EQ(server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"], all);
  EXPECT_EQ(server.stream("/v1/chat/completions", body).content(), all);
}

TEST(Chat, MessagesWithoutTextAreEmptyToTheTemplate) {
  TestServer server;
  TestJson empty = chat("abc");
  empty["messages"].push_back({{"role", "assistant"}, {"content", ""}});
  TestJson null = empty;
  null["messages"].back()["content"] = nullptr;
  const TestJson tokens = server.post("/tokenize", empty)["tokens"];
  EXPECT_EQ(server.post("/tokenize", null)["tokens"], tokens);
}

TEST(Tokens, GoBothWays) {
  TestServer server;
  const TestJson tokens = server.post("/tokenize", {{"prompt", "a the"}, {"return_token_strs", true}});
  EXPECT_EQ(tokens["tokens"], TestJson({'a', 262}));
  EXPECT_EQ(tokens["token_strs"], TestJson({"a", " the"}));
  EXPECT_EQ(tokens["count"], 2);
  EXPECT_EQ(server.post("/detokenize", {{"tokens", {'a', 262}}})["prompt"], "a the");
  EXPECT_GT(
      server.post("/tokenize", {{"messages", {{{"role", "user"}, {"content", "hi"}}}}})["count"].get<int>(),
      10);
}

TEST(Documents, ModelsVersionOpenApiMetrics) {
  TestServer server;
  EXPECT_EQ(server.get("/v1/models")["data"][0]["id"], "scripted");
  EXPECT_EQ(server.get("/v1/models/scripted")["object"], "model");
  EXPECT_EQ(server.send("GET", "/v1/models/none").status, 404);
  EXPECT_FALSE(server.get("/version")["version"].get<std::string>().empty());
  EXPECT_EQ(server.get("/load")["server_load"], 0);
  EXPECT_EQ(server.send("GET", "/health").status, 200);
  EXPECT_EQ(server.send("GET", "/ping").status, 200);
  const TestJson document = server.get("/openapi.json");
  for (const std::string path : {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize",
                                 "/detokenize", "/metrics", "/v1/models/{name}"})
    EXPECT_TRUE(document["paths"].contains(path)) << path;
  EXPECT_TRUE(document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
                      ["schema"]["properties"]
                          .contains("top_p"));
  for (const auto& [path, methods] : document["paths"].items())
    for (const auto& [method, operation] : methods.items()) {
      for (const char* status : {"200", "400", "403", "408", "431", "500", "503"})
        EXPECT_TRUE(operation["responses"].contains(status)) << method << path << status;
      EXPECT_EQ(operation["responses"].contains("429"), operation.contains("requestBody")) << path;
    }
  EXPECT_NE(document["info"]["description"].get<std::string>().find("405"), std::string::npos);
  server.post("/v1/chat/completions", chat("abc"));
  const std::string metrics = server.send("GET", "/metrics").body;
  for (const std::string line :
       {"vllm:generation_tokens_total{model_name=\"scripted\",engine=\"0\"} 4\n",
        "vllm:time_to_first_token_seconds_count{model_name=\"scripted\",engine=\"0\"} 1\n",
        "vllm:request_success_total{model_name=\"scripted\",engine=\"0\",finished_reason=\"stop\"} 1\n",
        "vllm:request_max_num_generation_tokens_sum{model_name=\"scripted\",engine=\"0\"} 4\n",
        "vllm:request_max_num_generation_tokens_count{model_name=\"scripted\",engine=\"0\"} 1\n",
        "vllm:num_requests_running{",
        "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1\n"})
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics.substr(0, 3000);
}

}  // namespace
}  // namespace flagscale::serve::testing
