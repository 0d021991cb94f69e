// More requests than there is room for, and those under way.

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

using namespace std::chrono_literals;

TEST(Embeddings, CountAmongTheRequestsUnderWay) {
  TestServer server;
  *server.step_ms = 300;
  auto answer = std::async(std::launch::async, [&] {
    return server.send("POST", "/v1/embeddings", R"({"input": "abc"})").status;
  });
  int most = 0;
  while (answer.wait_for(5ms) != std::future_status::ready)
    most = std::max(most, server.get("/load")["server_load"].get<int>());
  EXPECT_EQ(most, 1);
  for (int i = 0; i < 200 && server.get("/load")["server_load"] != 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(server.get("/load")["server_load"], 0);
}

// Who is being answered and who asks after that get the reason; whoever watches the server sees it.
TEST(Overload, ALostGpuIs503) {
  TestServer server;
  *server.step_ms = 5;
  EXPECT_EQ(server.send("GET", "/health").status, 200);
  EXPECT_EQ(server.server().failure(), "");
  auto other = std::async(std::launch::async, [&] {
    return server.send("POST", "/v1/completions", completion(std::string(60, 'a')).dump());
  });
  while (server.metric("vllm:num_requests_running") < 1) std::this_thread::sleep_for(1ms);
  constexpr const char* kWhy = "[cuda] a kernel failed: CUDA_ERROR_UNKNOWN";
  EXPECT_EQ(server.post("/v1/completions", completion("a\x02"), 500)["error"]["message"], kWhy);
  const net::Response ended = other.get();
  EXPECT_EQ(ended.status, 500);
  EXPECT_EQ(TestJson::parse(ended.body)["error"]["message"], kWhy);
  for (const char* path : {"/health", "/ping"}) {
    const net::Response health = server.send("GET", path);
    EXPECT_EQ(health.status, 503) << path;
    EXPECT_EQ(TestJson::parse(health.body)["error"]["message"], kWhy);
  }
  EXPECT_EQ(server.post("/v1/completions", completion("a"), 503)["error"]["message"], kWhy);
  EXPECT_EQ(server.server().failure(), kWhy);
  server.server().drain(5);
}

TEST(Overload, IsRefusedWith429) {
  ServiceConfig config;
  config.max_queued_requests = 2;
  TestServer server(config, 512, 1);
  *server.step_ms = 20;
  std::vector<std::future<int>> answers;
  for (int i = 0; i < 12; ++i)
    answers.push_back(std::async(std::launch::async, [&] {
      const net::Response response = server.send("POST", "/v1/completions", completion("abcdefgh").dump());
      EXPECT_EQ(response.status == 429, !response.header("Retry-After").empty());
      return response.status;
    }));
  int done = 0, refused = 0;
  for (auto& answer : answers) {
    const int status = answer.get();
    done += status == 200;
    refused += status == 429;
  }
  EXPECT_GE(done, 2);
  EXPECT_GE(refused, 1);
  EXPECT_EQ(done + refused, 12);
}

// More texts than may wait can never be taken; as many as may wait are taken together, beside others not.
TEST(Overload, TheTextsOfARequestAreTakenTogether) {
  ServiceConfig config;
  config.max_queued_requests = 3;
  TestServer server(config, 512, 1);
  for (const auto& [path, field] : {std::pair{"/v1/completions", "prompt"}, {"/v1/embeddings", "input"}}) {
    EXPECT_EQ(server.send("POST", path, TestJson{{field, {"a", "b", "c"}}}.dump()).status, 200) << path;
    const TestJson error = server.post(path, {{field, {"a", "b", "c", "d"}}}, 400)["error"];
    EXPECT_EQ(error["param"], field);
    EXPECT_NE(error["message"].get<std::string>().find("--max-queued-requests"), std::string::npos) << error;
  }
  *server.step_ms = 20;
  std::vector<std::future<int>> before;
  for (int i = 0; i < 2; ++i)  // one computes, one waits
    before.push_back(std::async(std::launch::async, [&] {
      return server.send("POST", "/v1/completions", completion("abcdefghijklmnopqrstuvwxyz").dump()).status;
    }));
  while (server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting") < 2) {
  }
  const auto status = [&](const TestJson& prompts) {
    return server.send("POST", "/v1/completions", TestJson{{"prompt", prompts}, {"max_tokens", 1}}.dump())
        .status;
  };
  EXPECT_EQ(status({"a", "b", "c"}), 429);
  EXPECT_LE(server.metric("vllm:num_requests_waiting"), 1) << "some of them were taken";
  EXPECT_EQ(status({"a", "b"}), 200);
  for (auto& answer : before) EXPECT_EQ(answer.get(), 200);
}

}  // namespace
}  // namespace flagscale::serve::testing
