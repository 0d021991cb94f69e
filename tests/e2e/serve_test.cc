// `flagscale serve` and `flagscale run` of serve and inference tasks, as processes: what was trained is
// served, asked over HTTP, stopped by a signal, and answers the prompts of a file.

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <future>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "net/client.h"
#include "tests/e2e/server_process.h"
#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

using nlohmann::json;

class Tasks : public Workshop {
 protected:
  static void SetUpTestSuite() {
    Workshop::SetUpTestSuite();
    must(training("served", {"train.model.train_iters=10"}));
    write("conf/inference.yaml",
          "defaults: [_self_, inference: small]\n"
          "experiment:\n  exp_name: small\n  exp_dir: outputs/${experiment.exp_name}\n"
          "  task: {type: inference, backend: vllm, entrypoint: flagscale/inference/inference_aquila.py}\n"
          "  runner: {hostfile: null}\n  envs: {CUDA_VISIBLE_DEVICES: 0}\naction: run\n"
          "hydra: {run: {dir: \"${experiment.exp_dir}/hydra\"}}\n");
    write("conf/inference/small.yaml",
          "llm:\n  model: served/checkpoints\n  trust_remote_code: true\n  tensor_parallel_size: 1\n"
          "  gpu_memory_utilization: 0.9\n  seed: 1234\n"
          "generate:\n  prompts: [\"namespace flagscale\", \"namespace flagscale\", \"#include <\"]\n"
          "  sampling: {top_p: 0.95, temperature: 0.8, max_tokens: 8}\n");
    write("conf/serve.yaml",
          "defaults: [_self_, serve: small]\n"
          "experiment:\n  exp_name: small\n  exp_dir: outputs/${experiment.exp_name}\n  task: {type: serve}\n"
          "  runner: {hostfile: null, deploy: {use_fs_serve: false}}\naction: run\n");
    write("conf/serve/small.yaml",
          "- serve_id: vllm_model\n  engine: vllm\n  engine_args:\n    model: ${oc.env:NO_SUCH_VARIABLE}\n"
          "    served_model_name: small\n    uvicorn_log_level: warning\n    tensor_parallel_size: 4\n"
          "  engine_args_specific:\n    sglang: {page_size: 16}\n    vllm: {enforce_eager: true, "
          "max_num_seqs: 4, limit_mm_per_prompt.image: 2}\n"
          "  profile: {input_len: 1024}\n  resources: {num_replicas: 2}\n");
  }

  static std::vector<std::string> task(const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words{"run", "--config-path", "conf", "--config-name", name};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static std::vector<json> lines(const std::string& text) {
    std::vector<json> all;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) all.push_back(json::parse(line));
    return all;
  }
  // It fails with this exit code and says this.
  static void expect_refusal(const std::vector<std::string>& words, int code, const std::string& what) {
    const Result result = run(words, folder_);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
  }
};

TEST_F(Tasks, EngineArgumentsAreFlags) {
  ServerProcess server(
      {"served/checkpoints", "--served-model-name", "trained", "--api-key", "key", "--max-num-seqs", "4",
       "--no-enable-prefix-caching", "--metrics-public", "--max-model-len", "0.03125K", "--dtype", "float",
       // vLLM's, which do nothing here
       "--tensor-parallel-size", "2", "--trust-remote-code", "--gpu-memory-utilization", "0.9",
       "--enforce-eager", "--task", "generate", "--runner", "auto", "--scheduling-policy", "priority",
       // vLLM's, which act
       "--allowed-origins", R"(["https://a.example", "https://b.example"])", "--allowed-headers",
       R"(["X-A"])", "--allow-credentials", "--stream-interval", "2", "--enable-force-include-usage"},
      folder_);
  ASSERT_NE(server.port(), 0) << server.ready_line();
  net::Client client({false, "127.0.0.1", server.port(), "/"});
  EXPECT_EQ(client.send("GET", "/metrics").status, 200);
  EXPECT_EQ(client.send("GET", "/v1/models").status, 401);
  const auto models =
      json::parse(client.send("GET", "/v1/models", "", {{"Authorization", "Bearer key"}}).body);
  EXPECT_EQ(models["data"][0]["max_model_len"], 32);
  const net::Response preflight = client.send("OPTIONS", "/v1/models", "", {{"Origin", "https://b.example"}});
  EXPECT_EQ(preflight.header("Access-Control-Allow-Origin"), "https://b.example");
  EXPECT_NE(preflight.header("Access-Control-Allow-Headers").find("X-A"), std::string::npos);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(Tasks, ServeRefusesWhatItDoesNotKnow) {
  expect_refusal({"serve", "tokenizer", "--engine-args", R"({"max_model_length": 64})"}, 2, "max_model_len");
  expect_refusal({"serve"}, 2, "which model?");
  expect_refusal({"serve", "tokenizer", "--engine-args", R"({"rope_theta": 2})"}, 2, "rope_theta");
  expect_refusal({"serve", "tokenizer", "--max-num-seq", "2"}, 2, "--max-num-seqs");
  expect_refusal({"serve", "tokenizer", "--max-num-seqs", "0"}, 2, "max_num_seqs");
  expect_refusal({"serve", "tokenizer", "--task", "classify"}, 2, "texts are continued and embedded");
  expect_refusal({"serve", "tokenizer", "--rope-theta", "2"}, 2, "the model's own configuration says it");
  expect_refusal({"serve", "served/checkpoints", "--served-model-name", ""}, 2, "served_model_name");
  expect_refusal({"serve", "served/checkpoints", "--num-kv-blocks", "1"}, 2, "16 tokens, fewer than");
  expect_refusal({"serve", "served/checkpoints", "--kv-cache-memory-bytes", "1k"}, 2,
                 "a cache of 1000 bytes");
  expect_refusal({"serve", "served/checkpoints", "--tls-cert", "none.pem", "--tls-key", "none.pem"}, 1,
                 "none.pem");
}

TEST_F(Tasks, AServeTaskRunsInTheForeground) {
  ServerProcess server(task("serve", {"+experiment.runner.cli_args.model_path=served/checkpoints",
                                      "+serve.0.engine_args.port=0"}),
                       folder_, true);
  ASSERT_NE(server.port(), 0) << server.ready_line();
  EXPECT_NE(server.ready_line().find("Serving small at"), std::string::npos) << server.ready_line();
  net::Client client({false, "127.0.0.1", server.port(), "/"});
  EXPECT_EQ(client.send("GET", "/v1/models").status, 200);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(Tasks, ServeTasksOfOtherKindsAreRefused) {
  const std::string path = "serve.0.engine_args.model=served/checkpoints";
  expect_refusal(task("serve", {path, "+serve.0.engine_args.max_model_length=4"}), 2, "max_model_len");
  expect_refusal(task("serve", {path, "action=auto_tune"}), 1, "action=run");
  expect_refusal(task("serve", {path, "+experiment.task.entrypoint=flagscale/serve/run_serve_pi0.py"}), 1,
                 "run_serve_pi0.py");
  expect_refusal(task("serve", {path, "+serve.0.module=models.py"}), 1, "composed service");
  expect_refusal(task("serve", {path, "experiment.task.type=rl"}), 1, "'rl'");
  EXPECT_NE(must(task("serve", {path, "action=dryrun"})).out.find("served/checkpoints"), std::string::npos);
}

TEST_F(Tasks, AreValidatedAsTheyRun) {
  const auto validate = [](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words = task(name, more);
    words.erase(words.begin());
    words.insert(words.begin(), {"config", "validate"});
    return words;
  };
  const std::string path = "serve.0.engine_args.model=served/checkpoints";
  EXPECT_EQ(must(validate("serve", {path})).out, "serve is a valid serve configuration\n");
  EXPECT_EQ(must(validate("inference", {})).out, "inference is a valid inference configuration\n");
  expect_refusal(validate("serve", {path, "+serve.0.engine_args.max_model_length=4"}), 2, "max_model_len");
  expect_refusal(validate("serve", {path, "action=auto_tune"}), 1, "action=run");
  expect_refusal(validate("inference", {"inference.generate.prompts=[1]"}), 2, "prompts");
}

TEST_F(Tasks, AnInferenceTaskAnswersItsPrompts) {
  const auto answers = lines(must(task("inference", {"--json"})).out);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0]["prompt"], "namespace flagscale");
  EXPECT_NE(answers[0]["token_ids"], answers[1]["token_ids"]) << "equal prompts draw differently";
  EXPECT_EQ(lines(must(task("inference", {"--json"})).out), answers) << "llm.seed decides";
  const Result generated = must({"generate", "served/checkpoints", "--prompt", "#include <", "--max-tokens",
                                 "8", "--temperature", "0", "--json"});
  const auto greedy =
      lines(must(task("inference", {"--json", "inference.generate.sampling.temperature=0"})).out);
  EXPECT_EQ(greedy[2]["text"], json::parse(generated.out)["text"]);
  EXPECT_EQ(greedy[2]["token_ids"], json::parse(generated.out)["token_ids"]);
}

TEST_F(Tasks, AnInferenceTaskGivesTheLogprobsItIsAskedFor) {
  const auto answers = lines(must(task("inference", {"--json", "+inference.generate.sampling.logprobs=2",
                                                     "+inference.generate.sampling.prompt_logprobs=1"}))
                                 .out);
  ASSERT_EQ(answers.size(), 3u);
  for (const json& answer : answers) {
    EXPECT_EQ(answer["logprobs"]["token_logprobs"].size(), answer["token_ids"].size());
    size_t most = 0;  // parts of characters may look alike
    for (const json& top : answer["logprobs"]["top_logprobs"]) most = std::max(most, top.size());
    EXPECT_GE(most, 2u);
    EXPECT_TRUE(answer["prompt_logprobs"][0].is_null());
    EXPECT_GT(answer["prompt_logprobs"].size(), 1u);
  }
  EXPECT_FALSE(lines(must(task("inference", {"--json"})).out)[0].contains("logprobs"));
}

// An answer under way ends, whole; who asks meanwhile is refused; the process ends by itself.
TEST_F(Tasks, ASigtermLetsAnswersUnderWayEnd) {
  ServerProcess server({"served/checkpoints", "--max-num-seqs", "2"}, folder_);
  ASSERT_NE(server.port(), 0) << server.ready_line();
  const net::Url url{false, "127.0.0.1", server.port(), "/"};
  const auto running = [&] {
    const std::string text = net::Client(url).send("GET", "/metrics").body;
    const size_t at = text.find("\nvllm:num_requests_running{");
    return std::atof(text.c_str() + text.find("} ", at) + 2);
  };
  constexpr size_t kAnswers = 4;
  constexpr int kTokens = 40, kChoices = 64;  // two compute at once: thousands of steps
  std::vector<std::future<net::Response>> answers;
  const json body{{"prompt", "int"}, {"max_tokens", kTokens}, {"ignore_eos", true}, {"n", kChoices}};
  for (size_t i = 0; i < kAnswers; ++i)
    answers.push_back(std::async(std::launch::async, [&] {
      return net::Client(url).send("POST", "/v1/completions", body.dump(),
                                   {{"Content-Type", "application/json"}});
    }));
  const auto ready = [](const std::future<net::Response>& answer) {
    return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  };
  while (running() == 0 && !ready(answers[0])) {
  }
  ASSERT_LT(std::ranges::count_if(answers, ready), kAnswers) << "none is under way any more";
  server.signal(SIGTERM);
  size_t whole = 0, refused = 0;
  for (auto& answer : answers) {
    try {
      const net::Response response = answer.get();
      refused += response.status == 503;
      if (response.status != 200) continue;
      EXPECT_EQ(json::parse(response.body)["usage"]["completion_tokens"], kChoices * kTokens);
      ++whole;
    } catch (const Error&) {  // not connected yet
      ++refused;
    }
  }
  EXPECT_GE(whole, 1u);
  EXPECT_EQ(whole + refused, kAnswers);
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(Tasks, AStringIsOnePromptAndLinesAreFlagScales) {
  const Result result =
      must(task("inference", {"inference.generate.prompts='int main'", "+inference.generate.sampling.stop=x",
                              "inference.generate.sampling.temperature=0"}));
  EXPECT_TRUE(
      result.out.starts_with(std::string(50, '*') + "\noutput.prompt='int main'\noutput.outputs[0].text="))
      << result.out;
  EXPECT_NE(result.out.find("\noutput.outputs[0].token_ids=["), std::string::npos) << result.out;
  EXPECT_TRUE(result.out.ends_with(std::string(50, '#') + "\n")) << result.out;
  EXPECT_EQ(result.out.find("output.prompt", 70), std::string::npos) << "one prompt alone:\n" << result.out;
}

TEST_F(Tasks, InferenceTasksNameWhatIsWrong) {
  expect_refusal(task("inference", {"+inference.llm.max_model_length=4"}), 2, "max_model_len");
  expect_refusal(task("inference", {"+inference.generate.sampling.temprature=1"}), 2, "temperature");
  expect_refusal(task("inference", {"+inference.generate.prompt=x"}), 2, "prompts");
  expect_refusal(task("inference", {"inference.generate.sampling.top_p=2"}), 2, "top_p");
  expect_refusal(task("inference", {"+inference.generate.images=[a.png]"}), 1, "images");
  expect_refusal(task("inference", {"+inference.engine.loader=diffusers"}), 1, "image, video and robot");
  expect_refusal(task("inference", {"inference.llm.model=nothing-there"}), 1, "nothing-there");
}

}  // namespace
}  // namespace flagscale::e2e
