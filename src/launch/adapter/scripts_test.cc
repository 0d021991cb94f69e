#include "launch/job_files.h"
#include "launch/job_test_support.h"

namespace flagscale::launch {
namespace {

const char* const kOneHost = R"(
experiment:
  exp_name: s
  exp_dir: .
  task: {type: serve}
  runner: {hostfile: null, deploy: {use_fs_serve: false}}
  envs: {CUDA_VISIBLE_DEVICES: 0, nodes_envs: {b: {CUDA_VISIBLE_DEVICES: "4,5"}}}
serve:
  - serve_id: vllm_model
    engine: vllm
    engine_args: {model: /m, port: 9000, json: '{"a": 1}'}
)";

class Scripts : public JobTest {
 protected:
  std::string file(const Job& job) { return job.files.at(0).text; }
};

TEST_F(Scripts, ServeReadsTheWholeConfiguration) {
  configure(kOneHost);
  const Job made = job();
  EXPECT_EQ(made.engine, "scripts");
  EXPECT_EQ(made.port, 9000);
  EXPECT_EQ(made.log, out() + "/serve_logs");
  EXPECT_EQ(made.nodes.at(0).command.argv, (Words{"python", "flagscale/serve/run_inference_engine.py",
                                                  "--config-path=" + out() + "/serve_logs/scripts/serve.yaml",
                                                  "--log-dir=" + out() + "/serve_logs"}));
  EXPECT_EQ(made.nodes[0].command.env.at("CUDA_VISIBLE_DEVICES"), "0");
  EXPECT_TRUE(made.nodes[0].prepare.empty());
  EXPECT_EQ(made.files.at(0).path, out() + "/serve_logs/scripts/serve.yaml");
  EXPECT_NE(file(made).find("exp_name: s"), std::string::npos);
  EXPECT_NE(file(made).find(R"(json: "{\"a\": 1}")"), std::string::npos) << file(made);
}

TEST_F(Scripts, WhichScriptServes) {
  configure(kOneHost);
  EXPECT_EQ(argv({"experiment.runner.deploy.use_fs_serve=true"})[1], "flagscale/serve/run_fs_serve_vllm.py");
  EXPECT_EQ(argv({"~experiment.runner.deploy"})[1], "flagscale/serve/run_fs_serve_vllm.py");
  EXPECT_EQ(argv({"serve.0.engine=null"})[1], "flagscale/serve/run_serve.py");
  EXPECT_EQ(argv({"+experiment.task.entrypoint=my/server.py"})[1], "my/server.py");
  EXPECT_NE(refusal({"+experiment.task.entrypoint=server"}).find("expected a Python file"),
            std::string::npos);
}

// The oldest place; FlagScale moves it whole.
TEST_F(Scripts, DeployMayStandBesideTheRunner) {
  configure(kOneHost);
  EXPECT_EQ(argv({"~experiment.runner.deploy", "+experiment.deploy.use_fs_serve=false"})[1],
            "flagscale/serve/run_inference_engine.py");
  EXPECT_EQ(job({"+experiment.deploy.port=7001"}).port, 7001);
}

TEST_F(Scripts, PortOfTheCommandLineOverDeployOverTheEntry) {
  configure(kOneHost);
  EXPECT_EQ(job({"~serve.0.engine_args.port"}).port, 8000);
  EXPECT_EQ(job({"+experiment.runner.deploy.port=7001"}).port, 7001);
  const Job made = job({"+experiment.runner.deploy.port=7001", "+experiment.runner.cli_args.port=7002"});
  EXPECT_EQ(made.port, 7002);
  EXPECT_NE(file(made).find("\n      port: 7002\n"), std::string::npos) << file(made);
  EXPECT_EQ(job({"~experiment.runner.deploy", "+experiment.runner.cli_args.port=7003"}).port, 7003);
}

TEST_F(Scripts, TheCommandLineGivesModelAndArguments) {
  configure(kOneHost);
  const std::string text =
      file(job({"+experiment.runner.cli_args.model_path=/other",
                R"(+experiment.runner.cli_args.engine_args='{"max_model_len": 4096}')"}));
  EXPECT_NE(text.find("model: /other"), std::string::npos) << text;
  EXPECT_NE(text.find("max_model_len: 4096"), std::string::npos) << text;
  EXPECT_NE(refusal({"+experiment.runner.cli_args.engine_args='{max'"}).find("is no JSON object"),
            std::string::npos);
}

TEST_F(Scripts, OverSeveralHostsThroughRay) {
  configure(kOneHost);
  const Job made =
      job({hostfile("a slots=8 type=gpu\nb slots=2 type=npu\n"), "+experiment.runner.master_port=6380"});
  ASSERT_EQ(made.nodes.size(), 2u);
  ASSERT_EQ(made.nodes[0].prepare.size(), 1u);
  EXPECT_EQ(made.nodes[0].prepare[0].argv, (Words{"ray", "start", "--head", "--port=6380", "--num-gpus=8"}));
  EXPECT_EQ(made.nodes[0].command.argv[1], "flagscale/serve/run_inference_engine.py");
  EXPECT_EQ(made.nodes[1].command.argv,
            (Words{"ray", "start", "--address=a:6380", R"(--resources={"npu":2})", "--block"}));
  EXPECT_EQ(made.nodes[1].command.env.at("CUDA_VISIBLE_DEVICES"), "4,5");
  EXPECT_NE(file(made).find("nodes:\n"), std::string::npos) << file(made);
}

TEST_F(Scripts, InACloudEveryNodeStartsItsPart) {
  configure(kOneHost);
  const Words cloud{"+experiment.runner.type=cloud",       "+experiment.runner.nnodes=5",
                    "+experiment.runner.master_addr=head", "+experiment.runner.master_port=7396",
                    "+experiment.runner.nproc_per_node=6", "experiment.envs.CUDA_VISIBLE_DEVICES=null",
                    "+serve.0.engine_args.dtype=bfloat16"};
  const auto node = [&](Words more) {
    more.insert(more.end(), cloud.begin(), cloud.end());
    return job(more);
  };
  const Job leader = node({"+experiment.runner.node_rank=0"});
  ASSERT_EQ(leader.nodes.size(), 1u);
  EXPECT_EQ(leader.nodes[0].prepare.at(0).argv,
            (Words{"ray", "start", "--head", "--port=7396", "--num-gpus=6"}));
  EXPECT_EQ(leader.nodes[0].command.argv[1], "flagscale/serve/run_inference_engine.py");
  EXPECT_EQ(leader.waits_for, "");
  EXPECT_NE(file(leader).find("tensor_parallel_size: 4\n"), std::string::npos) << file(leader);
  EXPECT_NE(file(leader).find("pipeline_parallel_size: 4\n"), std::string::npos) << file(leader);
  const Job worker = node({"+experiment.runner.node_rank=3", "+experiment.runner.device_type=npu"});
  EXPECT_EQ(worker.nodes.at(0).rank, 3);
  EXPECT_EQ(worker.nodes[0].command.argv,
            (Words{"ray", "start", "--address=head:7396", R"(--resources={"npu":6})", "--block"}));
  EXPECT_EQ(worker.waits_for, "head:7396");
  EXPECT_NE(file(node({"+experiment.runner.node_rank=0", "+serve.0.engine_args.tensor_parallel_size=2"}))
                .find("tensor_parallel_size: 2\n"),
            std::string::npos);
}

TEST_F(Scripts, FlagScalesServerNeedsRay) {
  configure(kOneHost);
  const Words fs{"experiment.runner.deploy.use_fs_serve=true"};
  EXPECT_EQ(job(fs).nodes[0].prepare.at(0).argv, (Words{"ray", "start", "--head"}));
  Words typed = fs;
  typed.insert(typed.end(), {"+experiment.runner.device_type=cpu", "+experiment.runner.nproc_per_node=4"});
  EXPECT_EQ(job(typed).nodes[0].prepare.at(0).argv, (Words{"ray", "start", "--head", "--num-cpus=4"}));
  EXPECT_NE(
      refusal({fs[0], "+experiment.runner.device_type=cpu"}).find("give experiment.runner.nproc_per_node"),
      std::string::npos);
}

// FlagScale quotes the JSON three times over, for its script, a shell and ssh.
TEST_F(Scripts, PrefillAndDecodeApart) {
  configure(kOneHost);
  const Words split{hostfile("a slots=4 type=gpu\nb slots=4 type=gpu\n"),
                    "+experiment.runner.deploy.prefill_decode_disaggregation=true",
                    "+experiment.runner.deploy.decode_num=2", "+serve.0.engine_args.tensor_parallel_size=2"};
  const Job made = job(split);
  ASSERT_EQ(made.nodes.size(), 4u);
  EXPECT_EQ(made.nodes[0].command.argv[1], "flagscale/serve/run_disagg_xpyd_router.py");
  EXPECT_EQ(made.nodes[0].host.name, "a");
  EXPECT_NE(file(made).find("pd_proxy_port: "), std::string::npos);
  const char* const hosts[] = {"a", "a", "b"};
  const char* const devices[] = {"0,1", "2,3", "0,1"};
  const char* const logs[] = {"prefill_0.log", "decode_0.log", "decode_1.log"};
  for (size_t i = 0; i < 3; ++i) {
    const NodeTask& node = made.nodes[i + 1];
    EXPECT_EQ(node.rank, static_cast<int>(i) + 1);
    EXPECT_EQ(node.host.name, hosts[i]);
    EXPECT_EQ(node.command.env.at("CUDA_VISIBLE_DEVICES"), devices[i]);
    EXPECT_EQ(node.output, out() + "/serve_logs/" + logs[i]);
    const std::string json = value(node.command.argv, "--kv-transfer-config");
    EXPECT_EQ(json.find(i == 0 ? R"({"kv_connector":"P2pNcclConnector","kv_role":"kv_producer")"
                               : R"({"kv_connector":"P2pNcclConnector","kv_role":"kv_consumer")"),
              0u)
        << json;
    EXPECT_NE(json.find(R"("http_port":")" + value(node.command.argv, "--port") + '"'), std::string::npos)
        << json;
    EXPECT_EQ(value(node.command.argv, "--gpu-memory-utilization"), i == 0 ? "(absent)" : "0.7");
  }
  Words many = split;
  many.push_back("+experiment.runner.deploy.prefill_num=3");
  EXPECT_EQ(refusal(many), "decode_1 needs 2 devices of one host: a has 0 left, b has 0 left");
  EXPECT_NE(refusal({split[1]}).find("needs experiment.runner.hostfile"), std::string::npos);
}

TEST_F(Scripts, DevicesOfAnotherVendorAreShownByItsVariable) {
  configure(kOneHost);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(FLAGSCALE_SOURCE_DIR);  // where device profiles are
  const Job made = job(
      {hostfile("a slots=2 type=ascend\n"), "+experiment.runner.deploy.prefill_decode_disaggregation=true"});
  std::filesystem::current_path(before);
  EXPECT_EQ(made.nodes.at(2).command.env.at("ASCEND_RT_VISIBLE_DEVICES"), "1");
  EXPECT_EQ(made.nodes[2].command.env.at("CUDA_VISIBLE_DEVICES"), "0");  // the configuration's own
}

TEST_F(Scripts, WhatIsNotToServeIsTold) {
  configure(kOneHost);
  EXPECT_NE(refusal({"~serve"}).find("no `serve`"), std::string::npos);
  EXPECT_NE(refusal({"serve.0.engine_args.model=null"}).find("engine_args.model is missing"),
            std::string::npos);
  EXPECT_NE(refusal({"serve.0.engine_args.model=\?\?\?"})
                .find("required value serve[0].engine_args.model is not set"),
            std::string::npos)
      << refusal({"serve.0.engine_args.model=\?\?\?"});
}

TEST_F(Scripts, InferenceReadsItsSection) {
  configure(R"(
experiment: {exp_name: i, exp_dir: ., runner: {hostfile: null}, model: /m,
  task: {type: inference, backend: vllm, entrypoint: flagscale/inference/inference_aquila.py}}
inference: {llm: {model: "${experiment.model}"}, generate: {prompts: [a]}}
)");
  const Job made = job();
  EXPECT_EQ(made.nodes.at(0).command.argv,
            (Words{"python", "flagscale/inference/inference_aquila.py",
                   "--config-path=" + out() + "/inference_logs/scripts/inference.yaml"}));
  EXPECT_EQ(file(made), "llm:\n  model: /m\ngenerate:\n  prompts:\n    - a\n");
  EXPECT_EQ(job({hostfile("a slots=8\nb slots=8\n")}).nodes.size(), 2u);
}

// `save_dir:` without a value makes the folder "None" in FlagScale.
TEST_F(Scripts, CompressReadsWhatHydraKeeps) {
  configure(R"(
experiment: {exp_name: c, exp_dir: ., runner: {hostfile: null},
  task: {type: compress, entrypoint: flagscale/compress/compressor_emu3.py}}
compress: {system: {save_dir: , logging: {log_interval: 1}}}
hydra: {run: {dir: "${experiment.exp_dir}/hydra"}}
)");
  const Job made = job();
  EXPECT_EQ(made.log, out() + "/compress_logs");
  EXPECT_EQ(made.nodes.at(0).command.argv, (Words{"python", "flagscale/compress/compressor_emu3.py",
                                                  "--config-path=" + out() + "/hydra/.hydra/config.yaml"}));
  EXPECT_EQ(made.files.at(0).path, out() + "/hydra/.hydra/config.yaml");
  for (const auto& folder : made.folders) EXPECT_NE(folder.filename(), "None");
}

// FlagScale keeps the command in a double-quoted variable of its script: there the shell takes inner quotes
// away.
TEST_F(Scripts, TheScriptForReadingKeepsEveryWord) {
  configure(kOneHost);
  Job made = job({"+experiment.envs.JSON='{\"a\": \"$HOME\"}'"});
  made.nodes[0].command.env["LINES"] = "one\ntwo";
  made.nodes[0].command.argv = {"echo", "--json", R"({"a": "it's"})", "--empty", ""};
  const std::string script = run_script(made, made.nodes[0]);
  EXPECT_NE(script.find(R"(export JSON='{"a": "$HOME"}')"), std::string::npos) << script;
  EXPECT_NE(script.find("export LINES='one\ntwo'\n"), std::string::npos) << script;
  EXPECT_NE(script.find("exec echo \\\n  --json '{\"a\": \"it'\\''s\"}' \\\n  --empty '' >> "),
            std::string::npos)
      << script;
}

TEST_F(Scripts, TheLayoutIsFlagScales) {
  configure(kOneHost);
  const Job made = job();
  write_job_files(made);
  for (const char* file : {"serve_logs/scripts/serve.yaml", "serve_logs/scripts/host_0_localhost_run.sh"})
    EXPECT_TRUE(std::filesystem::exists(out() + "/" + file)) << file;
  folder_.put("file", "");
  Job blocked = made;
  blocked.log = folder_.path + "/file/logs";
  blocked.files.clear();
  EXPECT_THROW(write_job_files(blocked), Error);
}

}  // namespace
}  // namespace flagscale::launch
