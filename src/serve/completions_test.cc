// Answers of /v1/completions and /v1/embeddings: HTTP in, the scripted model behind.

#include <gtest/gtest.h>

#include <future>

#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

// A model that gives NaN ends the request that met it, as an error of the server's; the others go on.
TEST(Completions, AModelThatGivesNoNumbersIsAnErrorOfThisRequestAlone) {
  TestServer server;
  const auto expect_error = [](const TestJson& body) {
    ASSERT_TRUE(body.contains("error")) << body;
    EXPECT_EQ(body["error"]["type"], "server_error");
    EXPECT_NE(body["error"]["message"].get<std::string>().find("is not a number"), std::string::npos) << body;
  };
  *server.step_ms = 2;
  auto beside = std::async(std::launch::async,
                           [&] { return server.post("/v1/completions", completion(std::string(40, 'x'))); });
  expect_error(server.post("/v1/completions", completion("ab\x01"), 500));
  expect_error(server.post("/v1/completions", completion("ab\x01", {{"temperature", 1}, {"n", 2}}), 500));
  expect_error(server.post("/v1/completions", completion("ab\x01", {{"logprobs", 2}}), 500));
  expect_error(server.post("/v1/embeddings", {{"input", "ab\x01"}}, 500));
  const Stream stream = server.stream("/v1/chat/completions", chat("ab\x01"));
  EXPECT_EQ(stream.status, 200);
  EXPECT_EQ(stream.content(), "ab");
  EXPECT_TRUE(stream.done);
  ASSERT_GE(stream.chunks.size(), 2u);
  expect_error(stream.chunks[stream.chunks.size() - 2]);
  EXPECT_EQ(stream.chunks.back()["choices"][0]["finish_reason"], "error");
  EXPECT_EQ(beside.get()["choices"][0]["text"], std::string(40, 'x'));
  EXPECT_EQ(server.post("/v1/completions", completion("abc"))["choices"][0]["text"], "abc");
}

TEST(Completions, TruncateThePromptToWhatFits) {
  TestServer server;
  const auto tokens = [&](const TestJson& keep) {
    return server.post("/v1/completions",
                       completion(std::string(600, 'a'), {{"truncate_prompt_tokens", keep},
                                                          {"max_tokens", 4}}))["usage"]["prompt_tokens"];
  };
  EXPECT_EQ(tokens(7), 7);
  EXPECT_EQ(tokens(-1), 512 - 4);
}

TEST(Completions, AnswersAsOpenAiDoes) {
  TestServer server;
  const TestJson answer = server.post("/v1/completions", completion("some text"));
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["choices"][0]["text"], "some text");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  const TestJson many =
      server.post("/v1/completions", {{"prompt", {"<<a>>", "<<b>>"}}, {"n", 2}, {"temperature", 0}});
  ASSERT_EQ(many["choices"].size(), 4u);
  EXPECT_EQ(many["choices"][1]["text"], "a");
  EXPECT_EQ(many["choices"][2]["text"], "b");
  EXPECT_EQ(many["choices"][3]["index"], 3);
  EXPECT_EQ(server.post("/v1/completions",
                        {{"prompt", {'<', '<', 'x', '>', '>'}}, {"temperature", 0}})["choices"][0]["text"],
            "x");
  EXPECT_EQ(server.stream("/v1/completions", completion("streamed text")).content(), "streamed text");
  EXPECT_EQ(server.post("/v1/completions", completion("best", {{"n", 1}, {"best_of", 3}}))["choices"].size(),
            1u);
}

TEST(Completions, EchoWithLogprobs) {  // what lm-evaluation-harness reads
  TestServer server;
  const TestJson choice =
      server.post("/v1/completions",
                  completion("yz", {{"echo", true}, {"logprobs", 1}, {"max_tokens", 1}}))["choices"][0];
  EXPECT_EQ(choice["text"], "<<yz>>y");
  const TestJson& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], TestJson({"<", "<", "y", "z", ">", ">", "y"}));
  EXPECT_EQ(logprobs["text_offset"], TestJson({0, 1, 2, 3, 4, 5, 6}));
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  for (size_t i = 1; i < 7; ++i) EXPECT_LE(logprobs["token_logprobs"][i].get<double>(), 0) << i;
  EXPECT_NEAR(logprobs["token_logprobs"][6].get<double>(), 0, 1e-3);
  const TestJson none =
      server.post("/v1/completions", completion("yz", {{"echo", true}, {"logprobs", 1}, {"max_tokens", 0}}));
  EXPECT_EQ(none["choices"][0]["text"], "<<yz>>");
  EXPECT_EQ(none["choices"][0]["logprobs"]["tokens"].size(), 6u);
  EXPECT_EQ(none["usage"]["completion_tokens"], 0);
  const TestJson ended = server.post(
      "/v1/completions", completion("", {{"echo", true}, {"logprobs", 1}, {"max_tokens", 1}}))["choices"][0];
  EXPECT_EQ(ended["text"], "<<>>");
  EXPECT_EQ(ended["logprobs"]["tokens"].size(), 5u) << "the prompt's, and the one that ends the text at once";
}

// Every token of the prompt but the first has its rank, in the same order as those above it.
TEST(Completions, PromptLogprobsRankThePromptsOwnTokens) {
  TestServer server;
  const auto ask = [&](int best) {
    return server.post(
        "/v1/completions",
        completion("yz", {{"prompt_logprobs", best}, {"max_tokens", 1}}))["choices"][0]["prompt_logprobs"];
  };
  const TestJson few = ask(0), all = ask(20);
  const std::vector<int> prompt = {'<', '<', 'y', 'z', '>', '>'};
  ASSERT_EQ(few.size(), prompt.size());
  EXPECT_TRUE(few[0].is_null());
  for (size_t i = 1; i < prompt.size(); ++i) {
    const std::string id = std::to_string(prompt[i]);
    ASSERT_EQ(few[i].size(), 1u);
    EXPECT_EQ(few[i][id]["decoded_token"], std::string(1, static_cast<char>(prompt[i])));
    const int rank = few[i][id]["rank"];
    ASSERT_TRUE(all[i].contains(id));
    EXPECT_EQ(all[i][id], few[i][id]);
    for (const auto& [other, entry] : all[i].items()) {
      EXPECT_EQ(entry["rank"] == rank, other == id);
      EXPECT_TRUE(entry["rank"] >= rank || entry["logprob"] >= few[i][id]["logprob"]) << entry;
    }
    EXPECT_EQ(all[i].size(), rank > 20 ? 21u : 20u);
  }
}

TEST(Embeddings, AreOfLengthOne) {
  TestServer server;
  const TestJson answer = server.post("/v1/embeddings", {{"input", {"abc", "de"}}});
  ASSERT_EQ(answer["data"].size(), 2u);
  double sum = 0;
  for (const TestJson& value : answer["data"][1]["embedding"])
    sum += value.get<double>() * value.get<double>();
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 5);
  const TestJson bytes = server.post("/v1/embeddings", {{"input", "abc"}, {"encoding_format", "base64"}});
  EXPECT_EQ(bytes["data"][0]["embedding"].get<std::string>().size(), 24u);  // 16 bytes
}

}  // namespace
}  // namespace flagscale::serve::testing
