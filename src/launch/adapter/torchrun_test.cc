#include "launch/adapter/torchrun.h"

#include "launch/job_test_support.h"

namespace flagscale::launch {
namespace {

const char* const kTrain = R"(
experiment:
  exp_name: test
  exp_dir: .
  task: {type: train, backend: megatron, entrypoint: flagscale/train/train_gpt.py}
  runner: {hostfile: null}
  cmds: {before_start: "ulimit -n 1048576", after_stop: "echo over"}
  envs: {CUDA_VISIBLE_DEVICES: "0,1,2,3,4,5,6,7"}
train:
  system:
    tensor_model_parallel_size: 2
    precision: {bf16: true, fp16: false}
    logging: {log_interval: 1, wandb_project: p}
    checkpoint: {save_interval: 5}
  model: {num_layers: 2, lr: 1e-5, weight_decay: 0.1, optimizer: {weight_decay: 0.01}}
  data: {data_path: a b, tokenizer: {vocab_file: null}}
action: run
)";

class Torchrun : public JobTest {
 protected:
  void SetUp() override { configure(kTrain); }
};

TEST_F(Torchrun, StartsTheEntrypointWithItsFlags) {
  const Job made = job({"++train.system.distributed_backend=gloo"});  // whatever this machine has
  EXPECT_EQ(made.engine, "megatron");
  EXPECT_EQ(made.name, "test");
  EXPECT_EQ(made.task, "train");
  EXPECT_EQ(made.log, out() + "/logs");
  EXPECT_EQ(made.before_start, "ulimit -n 1048576");
  EXPECT_EQ(made.after_stop, "echo over");
  ASSERT_EQ(made.nodes.size(), 1u);
  const NodeTask& node = made.nodes[0];
  EXPECT_EQ(node.output, out() + "/logs/host_0_localhost.output");
  EXPECT_EQ(node.command.env.at("CUDA_VISIBLE_DEVICES"), "0,1,2,3,4,5,6,7");
  const Words& argv = node.command.argv;
  EXPECT_EQ(argv[0], "torchrun");
  const auto script = std::find(argv.begin(), argv.end(), "flagscale/train/train_gpt.py");
  const Words launcher(argv.begin(), script), flags(script + 1, argv.end());
  EXPECT_EQ(value(launcher, "--nnodes"), "1");
  EXPECT_EQ(value(launcher, "--nproc_per_node"), "8");
  EXPECT_EQ(value(launcher, "--node_rank"), "0");
  EXPECT_EQ(value(launcher, "--rdzv_backend"), "c10d");
  EXPECT_EQ(value(launcher, "--rdzv_id"), "default");
  EXPECT_TRUE(value(launcher, "--rdzv_endpoint").starts_with("localhost:"));
  EXPECT_EQ(value(launcher, "--redirects"), "3");
  EXPECT_EQ(value(launcher, "--tee"), "3");
  EXPECT_TRUE(value(launcher, "--log_dir").starts_with(out() + "/logs/details/host_0_localhost/2"));
  EXPECT_EQ(flags, (Words{"--tensor-model-parallel-size",
                          "2",
                          "--bf16",
                          "--log-interval",
                          "1",
                          "--wandb-project",
                          "p",
                          "--wandb-save-dir",
                          out() + "/wandb",
                          "--tensorboard-dir",
                          out() + "/tensorboard",
                          "--save-interval",
                          "5",
                          "--save",
                          out() + "/checkpoints",
                          "--load",
                          out() + "/checkpoints",
                          "--distributed-backend",
                          "gloo",
                          "--num-layers",
                          "2",
                          "--lr",
                          "1e-05",
                          "--weight-decay",
                          "0.1",
                          "--weight-decay",
                          "0.01",
                          "--data-path",
                          "a b"}));
}

TEST_F(Torchrun, TwoTypedHosts) {
  const Job made =
      job({hostfile("a slots=8 type=A800\nb slots=4 type=mlu590\n"), "+experiment.runner.master_port=29500",
           "+experiment.runner.nnodes=2", "+train.model.hetero_current_device_type=x"});
  ASSERT_EQ(made.nodes.size(), 2u);
  for (const NodeTask& node : made.nodes) {
    EXPECT_EQ(value(node.command.argv, "--nnodes"), "2");
    EXPECT_EQ(value(node.command.argv, "--rdzv_endpoint"), "a:29500");
    EXPECT_EQ(value(node.command.argv, "--node_rank"), std::to_string(node.rank));
  }
  EXPECT_EQ(made.nodes[0].output, out() + "/logs/host_0_a.output");
  EXPECT_EQ(made.nodes[1].output, out() + "/logs/host_1_b.output");
  EXPECT_EQ(value(made.nodes[0].command.argv, "--nproc_per_node"), "8");
  EXPECT_EQ(value(made.nodes[1].command.argv, "--nproc_per_node"), "4");
  EXPECT_EQ(value(made.nodes[0].command.argv, "--hetero-current-device-type"), "A800");
  EXPECT_EQ(value(made.nodes[1].command.argv, "--hetero-current-device-type"), "mlu590");
  EXPECT_TRUE(value(made.nodes[1].command.argv, "--log_dir").starts_with(out() + "/logs/details/host_1_b/"));
}

TEST_F(Torchrun, AHostsTypeIsAddedWhereTheFlagIsNot) {
  EXPECT_FALSE(has(argv({hostfile("a slots=8\n")}), "--hetero-current-device-type"));
  EXPECT_EQ(value(argv({hostfile("a slots=8 type=A800\n")}), "--hetero-current-device-type"), "A800");
}

// A hostfile without any *_VISIBLE_DEVICES ends FlagScale with an UnboundLocalError.
TEST_F(Torchrun, AHostfileNeedsNoVisibleDevices) {
  EXPECT_EQ(value(argv({hostfile("a slots=3\n"), "~experiment.envs"}), "--nproc_per_node"), "3");
}

TEST_F(Torchrun, EachHostAlone) {
  const Job made = job({hostfile("a slots=8\nb slots=8\n"), "+experiment.runner.per_node_task=true"});
  ASSERT_EQ(made.nodes.size(), 2u);
  const Words& second = made.nodes[1].command.argv;
  EXPECT_EQ(value(second, "--nnodes"), "1");
  EXPECT_EQ(value(second, "--node_rank"), "0");
  EXPECT_TRUE(value(second, "--rdzv_endpoint").starts_with("localhost:"));
  EXPECT_TRUE(value(second, "--log_dir").starts_with(out() + "/logs/details/host_0_b/"));
  EXPECT_FALSE(has(second, "--per_node_task"));
}

TEST_F(Torchrun, StartsItsRanksAgainItself) {
  const Job made = job({"+experiment.runner.max_restarts=3", "++experiment.runner.master_port=6380"});
  EXPECT_TRUE(made.mends_itself);
  EXPECT_EQ(made.max_restarts, 3);
  EXPECT_EQ(made.meeting_port, 6380);
  EXPECT_EQ(
      job({"++experiment.runner.master_port=6380", "+experiment.runner.rdzv_endpoint=h:1"}).meeting_port, 0)
      << "they meet elsewhere";
}

TEST_F(Torchrun, OtherRunnerKeysAreItsOptions) {
  const Words made = argv({"+experiment.runner.max_restarts=3", "+experiment.runner.rdzv_backend=static",
                           "+experiment.runner.rdzv_id=mine", "+experiment.runner.rdzv_endpoint=h:1",
                           "+experiment.runner.tee=1", "+experiment.runner.no_python=true",
                           "+experiment.runner.standalone=false", "+experiment.runner.role=null"});
  EXPECT_EQ(value(made, "--max_restarts"), "3");
  EXPECT_EQ(value(made, "--rdzv_backend"), "static");
  EXPECT_EQ(value(made, "--rdzv_id"), "mine");
  EXPECT_EQ(value(made, "--rdzv_endpoint"), "h:1");
  EXPECT_EQ(value(made, "--tee"), "1");
  EXPECT_TRUE(has(made, "--no_python"));
  EXPECT_FALSE(has(made, "--standalone"));
  EXPECT_FALSE(has(made, "--role"));
}

// FlagScale passes these on, and torchrun stops at them.
TEST_F(Torchrun, TheLaunchersOwnKeysStayHere) {
  const Words made =
      argv({"+experiment.runner.no_shared_fs=true", "+experiment.runner.hang_detection_timeout=60",
            "+experiment.runner.enable_monitoring=true", "+experiment.runner.ssh_port=2222"});
  for (const char* flag : {"--no_shared_fs", "--hang_detection_timeout", "--enable_monitoring", "--ssh_port"})
    EXPECT_FALSE(has(made, flag)) << flag;
  EXPECT_TRUE(has(made, "--no-shared-fs"));  // the training script's
  EXPECT_TRUE(value(made, "--log_dir").starts_with(out() + "/logs/details/host/"));
  const Job shared_nothing =
      job({"+experiment.runner.no_shared_fs=true", "+experiment.runner.ssh_port=2222"});
  EXPECT_EQ(shared_nothing.nodes[0].output, out() + "/logs/host.output");
  EXPECT_EQ(shared_nothing.ssh_port, 2222);
}

TEST_F(Torchrun, AMisspeltRunnerKeyIsToldBeforeAnythingStarts) {
  EXPECT_NE(refusal({"+experiment.runner.max_restart=3"}).find("did you mean 'max_restarts'?"),
            std::string::npos);
  EXPECT_EQ(value(argv({"+experiment.runner.quite_new_option=3"}), "--quite_new_option"), "3");
}

TEST_F(Torchrun, AnotherLauncherGetsItsRunsName) {
  const Words made = argv({"+experiment.runner.backend=flagrun", "+experiment.runner.rdzv_id=r1"});
  EXPECT_EQ(made[0], "flagrun");
  EXPECT_TRUE(value(made, "--log_dir").ends_with("/r1"));
}

// The hostfiles of three of FlagScale's examples are placeholders. Its command is then that of one host,
// which here would train with half of the processes that the layout needs, and it says nothing.
TEST_F(Torchrun, AMissingHostfileIsNoJobOfOneHost) {
  const std::string theirs = value(argv({"+experiment.runner.nnodes=2"}), "--nnodes");
  EXPECT_EQ(theirs, "1");  // what FlagScale starts
  EXPECT_NE(refusal({"experiment.runner.hostfile=torchrun", "+experiment.runner.nnodes=2"})
                .find("there is no hostfile torchrun: write one"),
            std::string::npos);
  EXPECT_NE(refusal({"+experiment.runner.ssh_port=xxx"})
                .find("experiment.runner.ssh_port is 'xxx', expected an integer"),
            std::string::npos);
}

TEST_F(Torchrun, GivenPathsBecomeAbsolute) {
  const std::string here = std::filesystem::current_path().string();
  const Job made = job({"+train.system.checkpoint.load=old/ckpt", "+train.system.checkpoint.save=/abs/./new",
                        "+train.system.logging.log_dir=mylogs", "+train.system.logging.tensorboard_dir=tb"});
  const Words& argv = made.nodes[0].command.argv;
  EXPECT_EQ(value(argv, "--load"), here + "/old/ckpt");
  EXPECT_EQ(value(argv, "--save"), "/abs/new");
  EXPECT_EQ(value(argv, "--tensorboard-dir"), here + "/tb");
  EXPECT_EQ(made.log, here + "/mylogs");
  EXPECT_FALSE(has(argv, "--log-dir"));
}

// examples/deepseek_v3/conf/train_11b_a2b.yaml has `load: None`, which YAML reads as a text: FlagScale makes
// the folder <checkout>/None and trains from nothing after each restart.
TEST_F(Torchrun, LoadingFromNoneIsNoFolder) {
  EXPECT_EQ(value(argv({"+train.system.checkpoint.load=None"}), "--load"), out() + "/checkpoints");
  EXPECT_EQ(value(argv({"+train.system.checkpoint.load=null"}), "--load"), out() + "/checkpoints");
}

// examples/aquila/conf/train/hetero.yaml has keys without a value; FlagScale passes `--vocab-file None`, and
// the tokenizer opens a file of that name.
TEST_F(Torchrun, NullIsNoFlag) {
  const Words made = argv({"+train.data.merge_file=null"});
  EXPECT_FALSE(has(made, "--vocab-file"));
  EXPECT_FALSE(has(made, "--merge-file"));
  EXPECT_EQ(std::count(made.begin(), made.end(), "None"), 0);
}

TEST_F(Torchrun, OfAKeyInTwoSectionsTheLaterCounts) {
  const Words made = argv({"+train.model.tensor_model_parallel_size=4", "+train.data.optimizer.lr=1"});
  EXPECT_EQ(value(made, "--tensor-model-parallel-size"), "4");
  EXPECT_EQ(values(made, "--weight-decay"),
            (std::vector<Words>{{"0.1"}}));  // `optimizer` of data, not of model
}

TEST_F(Torchrun, SettingsOfTypeAndHost) {
  const Words more{hostfile("a slots=8 type=A800\nb slots=8 type=mlu\n"),
                   "+device_type_specific.mlu.build_dir=/b/mlu",
                   "+device_type_specific.mlu.use_flash_attn='true'",
                   "+device_type_specific.mlu.bf16=false",
                   "+node_specific.b.log_interval=7",
                   "+node_specific.b.swiglu=true"};
  const Job made = job(more);
  const Words &a = made.nodes[0].command.argv, &b = made.nodes[1].command.argv;
  EXPECT_TRUE(has(a, "--bf16"));
  EXPECT_FALSE(has(a, "--use-flash-attn"));
  EXPECT_FALSE(has(b, "--bf16"));
  EXPECT_EQ(values(b, "--use-flash-attn"), (std::vector<Words>{{}}));
  EXPECT_EQ(values(b, "--swiglu"), (std::vector<Words>{{}}));
  EXPECT_EQ(value(b, "--log-interval"), "7");
  EXPECT_EQ(value(a, "--log-interval"), "1");
  EXPECT_FALSE(has(b, "--build-dir"));
  EXPECT_EQ(made.nodes[1].command.directory, "/b/mlu");
  EXPECT_EQ(made.nodes[1].command.env.at("PYTHONPATH"), "/b/mlu/third_party/Megatron-LM:/b/mlu");
}

TEST_F(Torchrun, TheCheckoutIsFoundAboveTheConfiguration) {
  folder_.put("flagscale/train/train_gpt.py", "");
  EXPECT_EQ(job().nodes[0].command.directory, folder_.path);
  EXPECT_TRUE(job()
                  .nodes[0]
                  .command.env.at("PYTHONPATH")
                  .starts_with(folder_.path + "/third_party/Megatron-LM:" + folder_.path));
  EXPECT_EQ(job({"+experiment.envs.PYTHONPATH=mine"}).nodes[0].command.env.at("PYTHONPATH"), "mine");
}

TEST_F(Torchrun, WhatMustBeSetIsAskedFor) {
  EXPECT_NE(refusal({"+train.data.path='${data_path:??}'"}).find("required value train.data.path is not set"),
            std::string::npos);
  EXPECT_NE(refusal({"+train.model.size=\?\?\?"}).find("required value train.model.size is not set"),
            std::string::npos);
  EXPECT_NE(refusal({"experiment.task.entrypoint=null"}).find("experiment.task.entrypoint is not set"),
            std::string::npos);
  EXPECT_NE(refusal({"~train"}).find("no `train`"), std::string::npos);
}

TEST_F(Torchrun, ABackendThatThereIsNotIsNamed) {
  EXPECT_NE(refusal({"experiment.task.backend=megatrno"}).find("did you mean 'megatron'?"),
            std::string::npos);
  EXPECT_NE(refusal({}, "vllm").find("engine vllm (vLLM's own server) runs serve tasks"), std::string::npos);
}

TEST_F(Torchrun, RobotsScriptReadsTheDatasNameAndTheModel) {
  const Words made = argv({"experiment.task.backend=robotics", "experiment.task.entrypoint=t.py",
                           "+train.data.config_name=cups"});
  const auto script = std::find(made.begin(), made.end(), "t.py");
  EXPECT_EQ(Words(script + 1, made.end()), (Words{"cups", "--num-layers", "2", "--lr", "1e-05",
                                                  "--weight-decay", "0.1", "--weight-decay", "0.01"}));
  EXPECT_NE(refusal({"experiment.task.backend=robotics"}).find("train.data.config_name is not set"),
            std::string::npos);
}

TEST_F(Torchrun, Pi0AndLerobotHavePathsOfTheirOwn) {
  const Words pi0 = argv({"experiment.task.backend=pi0"});
  for (const char* flag : {"--save", "--load", "--tensorboard-dir", "--wandb-save-dir"})
    EXPECT_FALSE(has(pi0, flag));
  EXPECT_EQ(value(pi0, "--num-layers"), "2");
  const Words lerobot = argv({"experiment.task.backend=lerobot"});
  EXPECT_EQ(value(lerobot, "--num_layers"), "2");
  EXPECT_FALSE(has(lerobot, "--save"));
}

}  // namespace
}  // namespace flagscale::launch
