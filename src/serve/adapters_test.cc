// LoRA adapters over HTTP: a tiny qwen3 with PEFT's adapters (tests/oracle/model/make_lora.py).

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <random>
#include <sstream>
#include <thread>

#include "base/temporary_folder_test_support.h"
#include "serve/server_test_support.h"
#include "serve/service_files.h"

namespace flagscale::serve::testing {
namespace {

namespace fs = std::filesystem;

const std::string kGolden = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/";

// A folder of adapters, and something beside it that no request may reach.
class AdapterServer {
 public:
  explicit AdapterServer(bool enable = true, int places = 2) {
    fs::create_directory(scratch_ / "inside");
    for (const char* adapter : {"all", "rslora", "zero"})
      fs::copy(kGolden + "lora/" + adapter, scratch_ / "inside" / adapter, fs::copy_options::recursive);
    fs::copy(kGolden + "lora/all", scratch_ / "outside", fs::copy_options::recursive);
    fs::create_directory_symlink(scratch_ / "outside", scratch_ / "inside" / "link");
    ServiceConfig config;
    config.enable_lora = enable;
    config.lora_dir = (scratch_ / "inside").string();
    engine::LoadedModel model;
    std::ostringstream text;
    text << std::ifstream(kGolden + "model/qwen3/config.json").rdbuf();
    model.path = kGolden + "model/qwen3";
    model.config = model::parse_config(text.str());
    model.tokenizer = make_tokenizer();
    engine::RunnerOptions options;
    options.max_length = 128;
    options.max_adapters = places;
    options.threads = 1;
    auto runner = std::make_unique<engine::Runner>(model.config, *io::open_weights(model.path), options);
    runner->adapters()->load("first", kGolden + "lora/all");
    adapters = runner->adapters();
    engine::EngineOptions engine_options;
    engine_options.tokenizer = model.tokenizer.get();
    auto engine = std::make_unique<engine::Engine>(std::move(runner), engine_options);
    http = std::make_unique<TestServer>(config, std::move(model), std::move(engine));
  }

  net::Response load(const TestJson& body) const {
    return http->send("POST", "/v1/load_lora_adapter", body.dump());
  }
  net::Response unload(const std::string& name) const {
    return http->send("POST", "/v1/unload_lora_adapter", TestJson{{"lora_name", name}}.dump());
  }
  std::string text(const std::string& model, int tokens = 12) const {
    const TestJson answer = http->post("/v1/completions", {{"model", model},
                                                           {"prompt", "abcdef"},
                                                           {"temperature", 0},
                                                           {"max_tokens", tokens},
                                                           {"ignore_eos", true}});
    EXPECT_EQ(answer["model"], model);
    return answer["choices"][0]["text"];
  }
  std::string outside() const { return (scratch_ / "outside").string(); }

  engine::Adapters* adapters = nullptr;
  std::unique_ptr<TestServer> http;

 private:
  const TemporaryFolder folder_;
  const fs::path scratch_ = folder_.path;
};

TEST(LoraServing, AnAdapterIsAModelOfItsOwnName) {
  const AdapterServer server;
  EXPECT_NE(server.text("first"), server.text("scripted"));
  const net::Response loaded = server.load({{"lora_name", "second"}, {"lora_path", "rslora"}});
  EXPECT_EQ(loaded.status, 200) << loaded.body;
  EXPECT_EQ(loaded.body, "Success: LoRA adapter 'second' added successfully.");
  EXPECT_NE(server.text("second"), server.text("first"));
  const TestJson models = server.http->get("/v1/models")["data"];
  ASSERT_EQ(models.size(), 3u);
  EXPECT_EQ(models[0]["parent"], nullptr);
  EXPECT_EQ(models[2]["id"], "second");
  EXPECT_EQ(models[2]["parent"], "scripted");
  EXPECT_EQ(server.http->get("/v1/models/second")["parent"], "scripted");
  const std::string chatted = server.http->post(
      "/v1/chat/completions",
      {{"model", "second"}, {"messages", {{{"role", "user"}, {"content", "a"}}}}, {"max_tokens", 2}},
      400)["error"]["message"];  // the tiny model lacks ChatML's ids
  EXPECT_NE(chatted.find("vocabulary"), std::string::npos) << chatted;
  const TestJson vectors = server.http->post("/v1/embeddings", {{"model", "second"}, {"input", "abc"}});
  EXPECT_NE(vectors["data"], server.http->post("/v1/embeddings", {{"input", "abc"}})["data"]);
  EXPECT_EQ(server.unload("second").body, "Success: LoRA adapter 'second' removed successfully.");
  EXPECT_EQ(
      server.http->post("/v1/completions", {{"model", "second"}, {"prompt", "a"}}, 404)["error"]["code"],
      "model_not_found");
  EXPECT_EQ(server.unload("second").status, 404);
  EXPECT_EQ(server.adapters->in_use(), 1);
}

TEST(LoraServing, UnloadingAnswersWhenTheLastRequestHasEnded) {
  const AdapterServer server;
  const std::string expected = server.text("first", 100);
  auto running = std::async(std::launch::async, [&] { return server.text("first", 100); });
  while (server.http->metric("vllm:num_requests_running") == 0 &&
         running.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
  }
  EXPECT_EQ(server.unload("first").status, 200);
  EXPECT_EQ(server.adapters->in_use(), 0);
  EXPECT_EQ(running.get(), expected);
  EXPECT_EQ(server.http->get("/v1/models")["data"].size(), 1u);
}

TEST(LoraServing, MetricsTellWhoseAdaptersAreInUse) {
  const AdapterServer server;
  const auto info = [&]() -> std::string {
    const std::string text = server.http->send("GET", "/metrics").body;
    const size_t at = text.find("\nvllm:lora_requests_info{");
    return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  };
  const std::string name = "vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=";
  EXPECT_TRUE(info().starts_with(name + "\"\",waiting_lora_adapters=\"\"} 1")) << info();
  bool seen = false;
  auto running = std::async(std::launch::async, [&] { return server.text("first", 100); });
  while (running.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    seen |= info().starts_with(name + "\"first\",");
  EXPECT_TRUE(seen);
}

TEST(LoraServing, RefusesWhatIsOutsideItsFolder) {
  const AdapterServer server;
  for (const std::string& path :
       {std::string("../outside"), server.outside(), std::string("link"), std::string("/etc/passwd"),
        std::string("all/../../outside"), std::string("."), std::string(""), std::string("all\0/../..", 10),
        std::string("%2e%2e/outside"), std::string(5000, 'a'), std::string("nothing")}) {
    const net::Response response = server.load({{"lora_name", "x"}, {"lora_path", path}});
    EXPECT_TRUE(response.status == 400 || response.status == 404) << path << response.status << response.body;
    EXPECT_TRUE(TestJson::parse(response.body).contains("error")) << response.body;
  }
  for (const TestJson& body :
       {TestJson{{"lora_name", "../../etc/passwd"}}, TestJson{{"lora_path", "all"}},
        TestJson{{"lora_name", 3}, {"lora_path", "all"}}, TestJson{{"lora_name", ""}, {"lora_path", "all"}},
        TestJson{{"lora_name", std::string(300, 'n')}, {"lora_path", "all"}},
        TestJson{{"lora_name", "scripted"}, {"lora_path", "all"}},
        TestJson{{"lora_name", "first"}, {"lora_path", "all"}}})
    EXPECT_EQ(server.load(body).status, 400) << body;
  EXPECT_EQ(server.load({{"lora_name", "second"}, {"lora_path", "zero"}}).status, 200);
  EXPECT_EQ(server.load({{"lora_name", "third"}, {"lora_path", "zero"}}).status, 400);  // two places
  EXPECT_EQ(server.adapters->in_use(), 2);
}

TEST(LoraServing, LoadsByRequestOnlyWhereThatIsEnabled) {
  const AdapterServer server(false);
  EXPECT_EQ(server.load({{"lora_name", "x"}, {"lora_path", "all"}}).status, 400);
  EXPECT_EQ(server.unload("first").status, 400);
  EXPECT_NE(server.text("first"), server.text("scripted"));
}

// Loads, unloads, or asks and goes away in mid answer.
void disturb(const AdapterServer& server, std::mt19937& random) {
  const std::vector<std::string> names{"all", "rslora", "zero"};
  const std::string& name = names[random() % 3];
  const auto what = random() % 6;
  if (what == 0) {
    const int status = server.load({{"lora_name", name}, {"lora_path", name}}).status;
    EXPECT_TRUE(status == 200 || status == 400) << status;  // loaded already, or its places are still taken
  } else if (what == 1) {
    const int status = server.unload(name).status;
    EXPECT_TRUE(status == 200 || status == 404) << status;
  } else {
    auto pieces = random() % 4;
    const TestJson body = {{"model", what == 2 ? "scripted" : name},
                           {"prompt", std::string(1 + random() % 60, 'a')},
                           {"n", 1 + random() % 2},
                           {"max_tokens", 1 + random() % 40},
                           {"ignore_eos", true},
                           {"stream", true}};
    const net::Response head = server.http->client().stream("POST", "/v1/completions", body.dump(),
                                                            {{"Content-Type", "application/json"}},
                                                            [&](std::string_view) { return pieces-- > 0; });
    EXPECT_TRUE(head.status == 200 || (head.status == 404 && what != 2)) << head.status;
  }
}

TEST(Soak, AdaptersOverHttpLeaveNothing) {
  const char* told = std::getenv("FLAGSCALE_SOAK_CANCELLATIONS");
  const int each = (told ? std::atoi(told) : 300) / 3;
  const AdapterServer server(true, 3);
  std::vector<std::thread> clients;
  for (unsigned c = 0; c < 3; ++c)
    clients.emplace_back([&, c] {
      std::mt19937 random(c);
      for (int i = 0; i < each; ++i) disturb(server, random);
    });
  for (std::thread& client : clients) client.join();
  for (const char* name : {"first", "all", "rslora", "zero"}) server.unload(name);
  const auto left = [&] {
    return server.adapters->in_use() + server.http->metric("vllm:num_requests_running") +
           server.http->metric("vllm:num_requests_waiting") +
           server.http->metric("vllm:kv_cache_usage_perc") +
           server.http->get("/load")["server_load"].get<double>();
  };
  for (int i = 0; i < 1000 && left() != 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(left(), 0);
  EXPECT_EQ(server.http->get("/v1/models")["data"].size(), 1u);
}

TEST(LoraServing, IsConfiguredAsInVllm) {
  const ServiceConfig config = read_service_config(
      "",
      R"({"enable_lora": true, "max_loras": 3, "max_lora_rank": 32, "lora_modules": ["a=b/c", {"name": "d", "path": "e"}]})");
  EXPECT_TRUE(config.enable_lora);
  EXPECT_EQ(config.max_loras, 3);
  ASSERT_EQ(config.lora_modules.list.size(), 2u);
  EXPECT_EQ(config.lora_modules.list[0].path, "b/c");
  EXPECT_EQ(config.lora_modules.list[1].name, "d");
  for (const std::string bad :
       {R"(["a"])", R"([{"name": "a"}])", R"(["=b"])", R"([{"name":"a","path":"b","x":1}])"})
    EXPECT_THROW(read_service_config("", "{\"lora_modules\": " + bad + "}"), Error) << bad;
}

}  // namespace
}  // namespace flagscale::serve::testing
