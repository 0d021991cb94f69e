// `flagscale serve` and `flagscale run` of serve and inference tasks, as processes: what was trained is
// served, asked over HTTP, stopped by a signal, and answers the prompts of a file.

#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

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
          "max_num_seqs: 4}\n"
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
       "--enforce-eager"},
      folder_);
  ASSERT_NE(server.port(), 0) << server.ready_line();
  net::Client client({false, "127.0.0.1", server.port(), "/"});
  EXPECT_EQ(client.send("GET", "/metrics").status, 200);
  EXPECT_EQ(client.send("GET", "/v1/models").status, 401);
  const auto models =
      json::parse(client.send("GET", "/v1/models", "", {{"Authorization", "Bearer key"}}).body);
  EXPECT_EQ(models["data"][0]["max_model_len"], 32);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(Tasks, ServeRefusesWhatItDoesNotKnow) {
  expect_refusal({"serve", "tokenizer", "--engine-args", R"({"max_model_length": 64})"}, 2, "max_model_len");
  expect_refusal({"serve"}, 2, "which model?");
  expect_refusal({"serve", "tokenizer", "--engine-args", R"({"rope_theta": 2})"}, 2, "rope_theta");
  expect_refusal({"serve", "tokenizer", "--max-num-seq", "2"}, 2, "--max-num-seqs");
  expect_refusal({"serve", "tokenizer", "--max-num-seqs", "0"}, 2, "max_num_seqs");
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
