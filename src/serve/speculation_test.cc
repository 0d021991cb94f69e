// Speculation through HTTP: the same answers with and without it, counted under vLLM's names.

#include <gtest/gtest.h>

#include "base/error.h"
#include "serve/server_test_support.h"
#include "serve/service_files.h"

namespace flagscale::serve::testing {
namespace {

ServiceConfig configured(const std::string& arguments) { return read_service_config("", arguments); }

int64_t metric(const std::string& metrics, const std::string& name) {
  const std::string key = "vllm:" + name + "{model_name=\"scripted\",engine=\"0\"} ";
  const size_t at = metrics.find("\n" + key);
  return at == std::string::npos ? -1 : std::stoll(metrics.substr(at + 1 + key.size()));
}

TEST(Speculation, ChangesNoAnswerAndIsCounted) {
  const TestServer plain;
  const TestServer guessing(configured(
      R"({"speculative_config": {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3, "prompt_lookup_min": 1}})"));
  for (const std::string script : {"abcabcabcabcabcabcabc", "one two three four", "aaaaaaaaaaaaaaaaaaab"})
    for (const TestJson& more : {TestJson::object(), TestJson{{"stop", "bca"}}, TestJson{{"n", 3}},
                                 TestJson{{"max_tokens", 7}}, TestJson{{"temperature", 0.8}, {"seed", 3}}})
      EXPECT_EQ(guessing.post("/v1/chat/completions", chat(script, more))["choices"],
                plain.post("/v1/chat/completions", chat(script, more))["choices"])
          << script << more;
  const std::string metrics = guessing.send("GET", "/metrics").body;
  EXPECT_GT(metric(metrics, "spec_decode_num_drafts_total"), 0);
  EXPECT_GT(metric(metrics, "spec_decode_num_accepted_tokens_total"), 0);
  EXPECT_GE(metric(metrics, "spec_decode_num_draft_tokens_total"),
            metric(metrics, "spec_decode_num_accepted_tokens_total"));
  EXPECT_EQ(metric(plain.send("GET", "/metrics").body, "spec_decode_num_drafts_total"), 0);
}

TEST(Speculation, IsConfiguredAsInVllm) {
  const auto read = [](const std::string& value) {
    return configured("{\"speculative_config\": " + value + "}").speculative_config.value;
  };
  const engine::Speculation all = read(
      R"({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2})");
  EXPECT_EQ(all.draft_tokens, 3);
  EXPECT_EQ(all.lookup_max, 4);
  EXPECT_EQ(all.lookup_min, 2);
  const engine::Speculation text = read(R"("{\"method\": \"ngram\", \"num_speculative_tokens\": 2}")");
  EXPECT_EQ(text.draft_tokens, 2);
  EXPECT_EQ(text.lookup_max, 5);
  EXPECT_EQ(text.lookup_min, 5);
  for (const std::string bad :
       {R"({"method": "ngram"})", R"({"method": "eagle", "num_speculative_tokens": 2})",
        R"({"num_speculative_tokens": 0})", R"({"num_speculative_tokens": 2, "model": "x"})",
        R"({"num_speculative_tokens": 2, "prompt_lookup_max": 1, "prompt_lookup_min": 3})", "[]", "3"})
    EXPECT_THROW(read(bad), Error) << bad;
}

TEST(Metrics, AreCurrentWhenTheAnswerEnds) {
  const TestServer server;
  int64_t tokens = 0;
  for (int i = 1; i <= 20; ++i) {
    tokens += server.post("/v1/chat/completions", chat("abc"))["usage"]["completion_tokens"].get<int64_t>();
    const std::string metrics = server.send("GET", "/metrics").body;
    EXPECT_EQ(metric(metrics, "generation_tokens_total"), tokens);
    EXPECT_EQ(metric(metrics, "num_requests_running"), 0);
    EXPECT_EQ(metric(metrics, "kv_cache_usage_perc"), 0);
    for (const std::string name :
         {"request_queue_time_seconds_count", "request_prefill_time_seconds_count",
          "request_decode_time_seconds_count", "request_inference_time_seconds_count",
          "e2e_request_latency_seconds_count"})
      EXPECT_EQ(metric(metrics, name), i) << name;
  }
}

}  // namespace
}  // namespace flagscale::serve::testing
