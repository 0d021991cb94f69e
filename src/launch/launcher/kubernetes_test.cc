// Manifests against those that tests/foreign/kubernetes_check.py has validated, and submitting against a
// kubectl that writes down what it is asked.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "launch/launcher/batch_system.h"
#include "launch/launcher/launcher_test_support.h"
#include "launch/launcher/submission.h"

namespace flagscale::launch {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Kubernetes : public testing::Test {
 protected:
  void SetUp() override {
    options.kubernetes.image = "registry.example/flagscale:1";
    job.name = "Aquila 7B";
    job.task = "train";
    job.log = folder.path + "/logs";
    job.nodes = 2;
    job.devices = 8;
    job.max_restarts = 3;
    job.env = {{"NCCL_DEBUG", "INFO"}, {"LAYOUT", "{\"a\": \"$(b)\"}"}};
    job.configuration = "experiment:\n  exp_name: Aquila 7B\n";
    before = std::filesystem::current_path();
    std::filesystem::current_path(FLAGSCALE_SOURCE_DIR);  // where device profiles are
  }
  void TearDown() override { std::filesystem::current_path(before); }

  std::string manifest() const { return make_batch_system("kubernetes", options)->files(job)[0].text; }
  std::string refused() const {
    try {
      manifest();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  // FLAGSCALE_GOLDEN=write makes them anew; kubernetes_check.py is then to be run again.
  void expect_golden(const std::string& name) const {
    const std::string path = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/kubernetes/" + name + ".json";
    const char* mode = getenv("FLAGSCALE_GOLDEN");
    if (mode && std::string(mode) == "write") std::ofstream(path) << manifest();
    EXPECT_EQ(manifest(), contents(path)) << name;
  }

  TemporaryFolder folder;
  LauncherOptions options;
  BatchJob job;
  std::filesystem::path before;
};

TEST_F(Kubernetes, AnIndexedJobAndItsService) {
  options.kubernetes.device = "nvidia";
  options.kubernetes.cpu = "64";
  options.kubernetes.memory = "512Gi";
  options.kubernetes.shared_memory = "64Gi";
  options.kubernetes.volumes = {{"/data", "datasets"}, {"/experiments", "Experiments_1"}};
  options.kubernetes.node_selector = {{"pool", "a800"}};
  options.kubernetes.service_account = "trainer";
  expect_golden("job");
}

TEST_F(Kubernetes, AJobSet) {
  options.kubernetes.kind = "JobSet";
  options.kubernetes.device = "ascend";
  expect_golden("job_set");
}

TEST_F(Kubernetes, OneNodeNeedsNoService) {
  job.nodes = 1;
  job.devices = 0;
  expect_golden("one_node");
}

TEST_F(Kubernetes, AServerIsADeployment) {
  job.task = "serve";
  job.nodes = 1;
  job.devices = 1;
  job.port = 8000;
  options.kubernetes.device = "gpu";
  expect_golden("serve");
}

TEST_F(Kubernetes, AServerOverNodesIsALeaderAndWorkers) {
  job.task = "serve";
  job.engine = "vllm";
  job.port = 8000;
  options.kubernetes.device = "gpu";
  expect_golden("serve_nodes");
  options.kubernetes.kind = "LeaderWorkerSet";
  expect_golden("leader_worker_set");
  job.is_native = true;
  EXPECT_NE(refused().find("this program serves on one node; --engine vllm"), std::string::npos) << refused();
  job.is_native = false;
  options.kubernetes.kind = "JobSet";
  EXPECT_NE(refused().find("kind is JobSet: that is for jobs that end"), std::string::npos) << refused();
  job.task = "train";
  options.kubernetes.kind = "LeaderWorkerSet";
  EXPECT_NE(refused().find("that is for services"), std::string::npos) << refused();
}

TEST_F(Kubernetes, WhatIsMissingIsNamed) {
  const std::string image = std::exchange(options.kubernetes.image, "");
  EXPECT_NE(refused().find("experiment.runner.kubernetes.image is not set"), std::string::npos) << refused();
  options.kubernetes.image = image;
  options.kubernetes.device = "tsingmicro";
  EXPECT_NE(refused().find("8 devices of 'tsingmicro', which Kubernetes has no name for"), std::string::npos)
      << refused();
  options.kubernetes.resource = "tsingmicro.example/txda";
  EXPECT_NE(manifest().find("\"tsingmicro.example/txda\": \"8\""), std::string::npos);
  options.kubernetes.kind = "CronJob";
  EXPECT_THROW(manifest(), Error);
}

TEST_F(Kubernetes, OurRanksMayShareAPodsProcessors) {
  options.kubernetes.device = "";
  EXPECT_NE(refused().find("8 devices of no kind"), std::string::npos) << refused();
  options.kubernetes.device = "cpu", options.kubernetes.cpu = "16";
  EXPECT_NE(refused().find("8 devices of 'cpu'"), std::string::npos)
      << "another engine's processes: " << refused();
  job.is_native = true;
  const auto list = nlohmann::json::parse(manifest());
  const auto& pod = list["items"].back()["spec"]["template"]["spec"];
  EXPECT_EQ(pod["containers"][0]["resources"]["limits"], (nlohmann::json{{"cpu", "16"}})) << list;
}

// A kubectl that appends its words to `asked` and answers what the test has put in `answer`.
class Kubectl : public Kubernetes {
 protected:
  void SetUp() override {
    Kubernetes::SetUp();
    options.kubernetes.device = "nvidia";
    executable(folder, "bin/kubectl",
               "#!/bin/sh\necho \"$*\" >>'" + folder.path + "/asked'\n. '" + folder.path + "/answer'\n");
    path_ = getenv("PATH");
    setenv("PATH", (folder.path + "/bin:" + path_).c_str(), 1);
  }
  void TearDown() override {
    setenv("PATH", path_.c_str(), 1);
    Kubernetes::TearDown();
  }
  void answers(const std::string& script) const { folder.put("answer", script); }
  std::string asked() const { return contents(folder.path + "/asked"); }

 private:
  std::string path_;
};

TEST_F(Kubectl, SubmitsFollowsAndDeletes) {
  const auto system = make_batch_system("kubernetes", options);
  answers("printf 'configmap/aquila-7b\\nservice/aquila-7b\\njob.batch/aquila-7b\\n'");
  EXPECT_EQ(system->submit(job), "job.batch/aquila-7b");
  EXPECT_EQ(asked(),
            "--namespace default create -f " + job.log.string() + "/scripts/kubernetes.json -o name\n");
  answers(R"(echo '{"status": {"active": 2, "ready": 0}}')");
  EXPECT_EQ(system->state("job.batch/aquila-7b"),
            (BatchState{BatchState::Phase::kWaiting, 0, "2 pods wait"}));
  answers(R"(echo '{"status": {"active": 2, "ready": 2}}')");
  EXPECT_EQ(system->state("job.batch/aquila-7b"), (BatchState{BatchState::Phase::kRunning, 0, "2 pods run"}));
  answers(
      R"(echo '{"status": {"conditions": [{"type": "Complete", "status": "False"}, {"type": "Failed", "status": "True", "message": "limit"}]}}')");
  EXPECT_EQ(system->state("job.batch/aquila-7b"),
            (BatchState{BatchState::Phase::kEnded, 1, "failed: limit"}));
  answers("echo 'Error from server (NotFound): jobs.batch \"x\" not found' >&2; exit 1");
  EXPECT_EQ(system->state("job.batch/aquila-7b").text, "deleted");
  answers("echo one; echo two");
  size_t place = 0;
  EXPECT_EQ(system->output(job, "", place), "one\ntwo\n");
  EXPECT_EQ(system->output(job, "", place), "");
  answers("echo three");
  EXPECT_EQ(system->output(job, "", place), "three\n");
  system->cancel("job.batch/aquila-7b");
  EXPECT_NE(asked().find("delete job.batch/aquila-7b --cascade=foreground --wait=false\n"),
            std::string::npos);
  answers("echo 'The connection to the server was refused' >&2; exit 1");
  EXPECT_EQ(system->state("job.batch/aquila-7b").text,
            "the cluster does not answer: The connection to the server was refused");
  EXPECT_THROW(system->submit(job), Error);
}

// One that is over keeps its name, and what a refused one has made goes again.
TEST_F(Kubectl, NothingStaysInTheNextOnesWay) {
  const auto system = make_batch_system("kubernetes", options);
  answers(
      R"(case "$*" in *create*) echo configmap/aquila-7b; echo 'Error (AlreadyExists): x' >&2; exit 1;; esac)");
  try {
    system->submit(job);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("it is there from before: action=stop ends it"),
              std::string::npos)
        << error.what();
  }
  EXPECT_NE(asked().find("delete configmap/aquila-7b --wait=false\n"), std::string::npos) << asked();
  answers(R"(echo '{"status": {"conditions": [{"type": "Complete", "status": "True"}]}}')");
  Submission submission;
  submission.system = "kubernetes", submission.id = "job.batch/aquila-7b", submission.space = "mine";
  EXPECT_EQ(stop_submission(submission).text, "complete");
  EXPECT_NE(asked().find("--namespace mine delete job.batch/aquila-7b"), std::string::npos) << asked();
}

}  // namespace
}  // namespace flagscale::launch
