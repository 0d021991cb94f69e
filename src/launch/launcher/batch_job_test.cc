#include "launch/launcher/batch_job.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"

namespace flagscale::launch {
namespace {

class BatchJobs : public testing::Test {
 protected:
  Experiment experiment(const std::string& runner, const std::string& more = "") const {
    folder.put("conf/job.yaml", "experiment:\n  exp_name: aquila\n  exp_dir: " + folder.path +
                                    "/exp\n  task: {type: train}\n  runner: " + runner +
                                    "\n  envs: {A: 1, B: true, device_type_specific: {x: {C: 1}}}\n" + more);
    return Experiment(config::compose({folder.path + "/conf", "job", {}}), folder.path + "/conf");
  }
  TemporaryFolder folder;
};

TEST_F(BatchJobs, AreMadeOfTheExperiment) {
  const BatchJob job =
      batch_job(experiment("{type: slurm, nnodes: '2:4', nproc_per_node: 8, max_restarts: 3}"), "yaml",
                {"flagscale", "run"});
  EXPECT_EQ(job.name, "aquila");
  EXPECT_EQ(job.task, "train");
  EXPECT_EQ(job.log, folder.path + "/exp/logs");
  EXPECT_EQ(job.nodes, 2);
  EXPECT_EQ(job.devices, 8);
  EXPECT_EQ(job.max_restarts, 3);
  EXPECT_EQ(job.port, 0);
  EXPECT_EQ(job.env, (std::map<std::string, std::string>{{"A", "1"}, {"B", "True"}}));
  EXPECT_NE(job.configuration.find("exp_name: aquila\n"), std::string::npos);
}

TEST_F(BatchJobs, AServersPortIsFlagScales) {
  const std::string serve = "serve: [{serve_id: vllm_model, engine: vllm, engine_args: {port: 9000}}]\n";
  folder.put(
      "conf/job.yaml",
      "experiment: {exp_name: a, exp_dir: b, task: {type: serve}, runner: {type: kubernetes}}\n" + serve);
  const auto served = [&](const std::vector<std::string>& overrides) {
    return batch_job(
        Experiment(config::compose({folder.path + "/conf", "job", overrides}), folder.path + "/conf"), "",
        {});
  };
  EXPECT_EQ(served({}).port, 9000);
  EXPECT_EQ(served({"+experiment.runner.deploy.port=9001"}).port, 9001);
  EXPECT_EQ(served({"~serve.0.engine_args.port"}).port, 8000);
  EXPECT_TRUE(served({}).log.string().ends_with("/serve_logs"));
}

TEST_F(BatchJobs, AWrongCountIsNamed) {
  try {
    batch_job(experiment("{nnodes: two}"), "", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("experiment.runner.nnodes is 'two'"), std::string::npos)
        << error.what();
  }
}

TEST_F(BatchJobs, ATypeHandsTheTaskIn) {
  EXPECT_FALSE(is_submitted(experiment("{}")));
  EXPECT_FALSE(is_submitted(experiment("{type: ssh}")));
  EXPECT_TRUE(is_submitted(experiment("{type: kubernetes}")));
  EXPECT_TRUE(is_submitted(experiment("{type: slurm}")));
  setenv("SLURM_JOB_ID", "7", 1);
  setenv("SLURM_JOB_NODELIST", "n[1-2]", 1);
  EXPECT_FALSE(is_submitted(experiment("{type: slurm}")));
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_JOB_NODELIST");
}

}  // namespace
}  // namespace flagscale::launch
