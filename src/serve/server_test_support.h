#pragma once
// A server of the scripted model on loopback, and a client of it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "net/client.h"
#include "serve/scripted_model_test_support.h"
#include "serve/serve.h"

namespace flagscale::serve::testing {

using TestJson = nlohmann::json;

struct Stream {
  int status = 0;
  std::vector<TestJson> chunks;  // without [DONE]
  bool done = false;             // [DONE] came
  std::string content(int choice = 0) const {
    std::string text;
    for (const TestJson& chunk : chunks)
      for (const TestJson& one : chunk.value("choices", TestJson::array()))
        if (one["index"] == choice)
          text += one.contains("delta") ? one["delta"].value("content", "") : one.value("text", "");
    return text;
  }
};

class TestServer {
 public:
  explicit TestServer(ServiceConfig config = {}, int64_t max_length = 512, int64_t max_sequences = 8) {
    config.model = "scripted";
    config.port = 0;
    engine::LoadedModel model = scripted_model();
    engine::EngineOptions options;
    options.tokenizer = model.tokenizer.get();
    options.speculation = config.speculative_config.value;
    auto engine = std::make_unique<engine::Engine>(
        std::make_unique<ScriptedRunner>(max_length, max_sequences, step_ms), options);
    server_ = std::make_unique<ModelServer>(config, std::move(model), std::move(engine));
  }
  // A model of the test's own, called "scripted" as well.
  TestServer(ServiceConfig config, engine::LoadedModel model, std::unique_ptr<engine::Engine> engine) {
    config.model = "scripted";
    config.port = 0;
    server_ = std::make_unique<ModelServer>(config, std::move(model), std::move(engine));
  }
  ~TestServer() { *step_ms = 0; }

  int port() const { return server_->port(); }
  net::Client client() const { return net::Client({false, "127.0.0.1", port(), "/"}); }
  net::Response send(const std::string& method, const std::string& path, const std::string& body = {},
                     net::Headers headers = {}) const {
    if (!body.empty()) headers.emplace_back("Content-Type", "application/json");
    return client().send(method, path, body, headers);
  }
  // Of a metric without further labels than the model's; -1: there is none.
  double metric(const std::string& name) const {
    const std::string text = send("GET", "/metrics").body;
    const size_t at = text.find("\n" + name + "{");
    return at == std::string::npos ? -1 : std::atof(text.c_str() + text.find("} ", at) + 2);
  }
  TestJson get(const std::string& path) const { return TestJson::parse(send("GET", path).body); }
  TestJson post(const std::string& path, const TestJson& body, int status = 200) const {
    const net::Response response = send("POST", path, body.dump());
    EXPECT_EQ(response.status, status) << body.dump().substr(0, 500) << "\n" << response.body;
    return TestJson::parse(response.body);
  }
  Stream stream(const std::string& path, TestJson body) const {
    body["stream"] = true;
    Stream result;
    net::EventStream events;
    result.status = client()
                        .stream("POST", path, body.dump(), {{"Content-Type", "application/json"}},
                                [&](std::string_view piece) {
                                  events.put(piece, [&](const std::string& data) {
                                    if (data == "[DONE]")
                                      result.done = true;
                                    else
                                      result.chunks.push_back(TestJson::parse(data));
                                  });
                                  return true;
                                })
                        .status;
    return result;
  }
  ModelServer& server() { return *server_; }

  const std::shared_ptr<std::atomic<int>> step_ms = std::make_shared<std::atomic<int>>(0);

 private:
  std::unique_ptr<ModelServer> server_;
};

// A chat whose answer is `script`.
inline TestJson chat(const std::string& script, TestJson more = TestJson::object()) {
  TestJson body = {{"model", "scripted"},
                   {"messages", {{{"role", "user"}, {"content", "Say <<" + script + ">>"}}}},
                   {"temperature", 0}};
  body.update(more);
  return body;
}
inline TestJson completion(const std::string& script, TestJson more = TestJson::object()) {
  TestJson body = {{"prompt", "<<" + script + ">>"}, {"temperature", 0}, {"max_tokens", 64}};
  body.update(more);
  return body;
}

}  // namespace flagscale::serve::testing
