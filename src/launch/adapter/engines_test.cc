// vLLM, SGLang, llama.cpp and verl started themselves.
#include "launch/job_test_support.h"

namespace flagscale::launch {
namespace {

const char* const kManyEngines = R"(
experiment:
  exp_name: s
  exp_dir: .
  task: {type: serve}
  runner: {hostfile: null}
serve:
  - serve_id: vllm_model
    engine: sglang
    engine_args:
      model: /models/Qwen3-8B
      host: 0.0.0.0
      max_model_len: 4K
      max_num_seqs: 4
      uvicorn_log_level: warning
      port: 30000
    engine_args_specific:
      vllm: {tensor_parallel_size: 2, max-num-seqs: 8, enable_chunked_prefill: false, enforce_eager: false,
             trust_remote_code: true, rope_scaling: {rope_type: yarn, factor: 2.0}}
      sglang: {page_size: 16, dist-init-addr: "x:1"}
      llama_cpp: {threads: 4, n_gpu_layers: 64}
)";

class Engines : public JobTest {
 protected:
  void SetUp() override { configure(kManyEngines); }
};

// FlagScale's launcher turns the mapping into Python's text, which vLLM cannot read, and passes nothing for
// false, so that what is on by itself stays on.
TEST_F(Engines, VllmsServer) {
  EXPECT_EQ(argv({}, "vllm"),
            (Words{"vllm", "serve", "/models/Qwen3-8B", "--tensor-parallel-size", "2", "--max-num-seqs", "4",
                   "--trust-remote-code", "--rope-scaling", R"({"rope_type":"yarn","factor":2.0})", "--host",
                   "0.0.0.0", "--max-model-len", "4K", "--uvicorn-log-level", "warning", "--port", "30000",
                   "--no-enable-chunked-prefill"}));
  EXPECT_EQ(job({}, "vllm").port, 30000);
}

TEST_F(Engines, VllmOverHostsIsARayCluster) {
  const Job made = job(
      {hostfile("a slots=8 type=gpu\nb slots=8 type=gpu\n"), "+experiment.runner.master_port=6380"}, "vllm");
  ASSERT_EQ(made.nodes.size(), 2u);
  EXPECT_EQ(made.nodes[0].prepare.at(0).argv,
            (Words{"ray", "start", "--head", "--port=6380", "--num-gpus=8"}));
  EXPECT_EQ(value(made.nodes[0].command.argv, "--distributed-executor-backend"), "ray");
  EXPECT_EQ(made.nodes[1].command.argv,
            (Words{"ray", "start", "--address=a:6380", "--num-gpus=8", "--block"}));
}

TEST_F(Engines, RestartsAndPortsAreTheLaunchers) {
  const Job made = job({"+experiment.runner.max_restarts=2", "+experiment.runner.master_port=6380"}, "vllm");
  EXPECT_EQ(made.max_restarts, 2);
  EXPECT_FALSE(made.mends_itself);
  EXPECT_EQ(made.meeting_port, 0) << "one host's vLLM meets nobody";
  EXPECT_EQ(job({"+experiment.runner.master_port=6380"}, "sglang").meeting_port, 6380);
}

TEST_F(Engines, WhatOnlyFlagScalesRouterDoesIsRefused) {
  for (const char* engine : {"vllm", "sglang", "llama_cpp"})
    EXPECT_NE(refusal({"++experiment.runner.deploy.prefill_decode_disaggregation=true"}, engine)
                  .find("FlagScale's router does that, which --engine yaml starts"),
              std::string::npos);
}

TEST_F(Engines, AMisspeltKeyOfTheRunnerIsRefused) {
  EXPECT_NE(refusal({"+experiment.runner.hostfil=x"}, "vllm").find("did you mean 'hostfile'?"),
            std::string::npos);
}

// As real parsers take them (tests/foreign/engine_arguments.py).
TEST_F(Engines, WordsThatHaveChangedOrAreOthers) {
  EXPECT_EQ(value(argv({"+serve.0.engine_args.limit_mm_per_prompt='image=8,video=1'"}, "vllm"),
                  "--limit-mm-per-prompt"),
            R"({"image":8,"video":1})");
  EXPECT_EQ(
      value(argv({"+serve.0.engine_args.limit_mm_per_prompt={image: 8}"}, "vllm"), "--limit-mm-per-prompt"),
      R"({"image":8})");
  EXPECT_NE(
      refusal({"+serve.0.engine_args.limit_mm_per_prompt='image=many'"}, "vllm").find("expected a mapping"),
      std::string::npos);
  const Words sglang =
      argv({"+serve.0.engine_args.gpu_memory_utilization=0.9", "+serve.0.engine_args.enforce_eager=true",
            "+serve.0.engine_args.enable_chunked_prefill=true"},
           "sglang");
  EXPECT_EQ(value(sglang, "--mem-fraction-static"), "0.9");
  EXPECT_TRUE(has(sglang, "--disable-cuda-graph"));
  EXPECT_FALSE(has(sglang, "--enable-chunked-prefill"));
}

TEST_F(Engines, AServerOfItsOwnIsNoEngine) {
  for (const char* engine : {"vllm", "sglang", "llama_cpp"})
    EXPECT_NE(refusal({"+experiment.task.entrypoint=my/server.py"}, engine).find("--engine yaml starts it"),
              std::string::npos);
}

// FlagScale gives --model-path twice.
TEST_F(Engines, SglangsServer) {
  EXPECT_EQ(argv({"+experiment.runner.master_port=5000"}, "sglang"), (Words{"python",
                                                                            "-m",
                                                                            "sglang.launch_server",
                                                                            "--model-path",
                                                                            "/models/Qwen3-8B",
                                                                            "--host",
                                                                            "0.0.0.0",
                                                                            "--context-length",
                                                                            "4K",
                                                                            "--max-running-requests",
                                                                            "4",
                                                                            "--log-level",
                                                                            "warning",
                                                                            "--port",
                                                                            "30000",
                                                                            "--page-size",
                                                                            "16",
                                                                            "--node-rank",
                                                                            "0",
                                                                            "--nnodes",
                                                                            "1",
                                                                            "--dist-init-addr",
                                                                            "127.0.0.1:5000"}));
}

TEST_F(Engines, SglangIsOneProcessAHost) {
  const Job made =
      job({hostfile("a slots=2 type=gpu\nb slots=2 type=gpu\n"), "+experiment.runner.master_port=5000",
           "+experiment.node_args.a.engine_args.port=1", "+experiment.node_args.b.engine_args.model=/local"},
          "sglang");
  ASSERT_EQ(made.nodes.size(), 2u);
  EXPECT_EQ(value(made.nodes[0].command.argv, "--model-path"), "/models/Qwen3-8B");
  EXPECT_EQ(value(made.nodes[0].command.argv, "--port"), "30000");
  EXPECT_EQ(value(made.nodes[1].command.argv, "--model-path"), "/local");
  for (const NodeTask& node : made.nodes) {
    EXPECT_EQ(value(node.command.argv, "--node-rank"), std::to_string(node.rank));
    EXPECT_EQ(value(node.command.argv, "--nnodes"), "2");
    EXPECT_EQ(value(node.command.argv, "--dist-init-addr"), "a:5000");
  }
}

TEST_F(Engines, LlamaCppsServer) {
  const std::string model = folder_.put("models/part/m-00001-of-00002.GGUF", "");
  folder_.put("models/part/m-00002-of-00002.GGUF", "");
  const Words made = argv({"serve.0.engine_args.model=" + folder_.path + "/models",
                           "+serve.0.engine_args.tensor_parallel_size=2"},
                          "llama_cpp");
  EXPECT_EQ(Words(made.begin() + 1, made.end()),
            (Words{"--model", model, "--host", "0.0.0.0", "--ctx-size", "4096", "--parallel", "4",
                   "--log-verbosity", "0", "--port", "30000", "--threads", "4", "--n-gpu-layers", "64"}));
  EXPECT_EQ(job({"~serve.0.engine_args.port"}, "llama_cpp").port, 8080);
  EXPECT_NE(refusal({hostfile("a slots=1\nb slots=1\n")}, "llama_cpp").find("serves on one host"),
            std::string::npos);
}

// verl's own test of a list: FlagScale glues its items together.
TEST_F(Engines, Verl) {
  configure(R"(
experiment: {exp_name: r, exp_dir: ., runner: {hostfile: null},
  task: {type: rl, backend: verl, entrypoint: verl.trainer.main_ppo}}
rl: {config-path: config, config-name: ppo_trainer.yaml, trainer: {logger: [console, wandb], nnodes: 1},
  append_kargs: {a: {b: True}}}
)");
  EXPECT_EQ(argv(), (Words{"python3", "-m", "verl.trainer.main_ppo", "--config-path=config",
                           "--config-name=ppo_trainer.yaml", "trainer.logger=[console,wandb]",
                           "trainer.nnodes=1", "+a.b=True"}));
  const Job made = job({hostfile("a slots=8\nb slots=4\n"), "+experiment.runner.ray_port=6400"});
  ASSERT_EQ(made.nodes.size(), 2u);
  EXPECT_EQ(made.nodes[0].prepare.at(0).argv, (Words{"ray", "start", "--head", "--port=6400", "--num-gpus=8",
                                                     "--dashboard-host=0.0.0.0", "--dashboard-port=8265"}));
  EXPECT_EQ(made.nodes[0].command.argv[0], "python3");
  EXPECT_EQ(made.nodes[0].command.env.at("RAY_ADDRESS"), "a:6400");
  EXPECT_EQ(made.nodes[1].command.argv,
            (Words{"ray", "start", "--address=a:6400", "--num-gpus=4", "--block"}));
}

}  // namespace
}  // namespace flagscale::launch
