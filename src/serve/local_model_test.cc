#include "serve/local_model.h"

#include <gtest/gtest.h>

#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

class LocalModels : public ::testing::Test {
 protected:
  LocalModels() {
    engine::LoadedModel loaded = scripted_model();
    engine::EngineOptions options;
    options.tokenizer = loaded.tokenizer.get();
    ServiceConfig config;
    config.model = "scripted";
    auto engine =
        std::make_unique<engine::Engine>(std::make_unique<ScriptedRunner>(4096, 1, step_ms_), options);
    model_ = std::make_unique<LocalModel>(config, std::move(loaded), std::move(engine));
  }
  net::Response ask(TestJson body, const std::function<bool(std::string_view)>& piece) {
    return model_->request("POST", "/v1/chat/completions", body.dump(), piece);
  }
  std::string text_of(const TestJson& body) {
    std::string text;
    net::EventStream events;
    ask(body, [&](std::string_view piece) {
      events.put(piece, [&](const std::string& data) {
        if (data != "[DONE]") text += TestJson::parse(data)["choices"][0]["delta"].value("content", "");
      });
      return true;
    });
    return text;
  }

  std::shared_ptr<std::atomic<int>> step_ms_ = std::make_shared<std::atomic<int>>(0);
  std::unique_ptr<LocalModel> model_;
};

TEST_F(LocalModels, AnswerAsAServerDoes) {
  EXPECT_EQ(model_->name(), "scripted");
  EXPECT_EQ(text_of(chat("Hello, you.", {{"stream", true}})), "Hello, you.");
  std::string body;
  const auto keep = [&](std::string_view piece) {
    body += piece;
    return true;
  };
  EXPECT_EQ(ask(chat("Whole"), keep).status, 200);
  EXPECT_EQ(TestJson::parse(body)["choices"][0]["message"]["content"], "Whole");
  body.clear();
  EXPECT_EQ(ask(chat("x", {{"temperature", "hot"}}), keep).status, 400);
  EXPECT_EQ(TestJson::parse(body)["error"]["param"], "temperature");
  body.clear();
  EXPECT_EQ(model_->request("GET", "/nothing", "", keep).status, 404);
}

TEST_F(LocalModels, BreakingOffEndsTheWork) {
  *step_ms_ = 5;
  const TestJson body = chat(std::string(2000, 'a'), {{"stream", true}, {"max_tokens", 2000}});
  for (const int pieces : {0, 1, 20}) {
    int seen = 0;
    ask(body, [&](std::string_view) { return seen++ < pieces; });
    EXPECT_LE(seen, pieces + 1);
  }
  // One sequence at a time: this would wait ten seconds behind one that goes on.
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(text_of(chat("next", {{"stream", true}})), "next");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(LocalModels, AnErrorOfTheListenerBreaksOffToo) {
  *step_ms_ = 5;
  EXPECT_THROW(ask(chat(std::string(500, 'a'), {{"stream", true}}),
                   [](std::string_view) -> bool { throw Error(ErrorKind::kResource, "full"); }),
               Error);
  EXPECT_EQ(text_of(chat("next", {{"stream", true}})), "next");
}

}  // namespace
}  // namespace flagscale::serve::testing
