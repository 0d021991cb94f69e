#include "launch/check_launch.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::launch {
namespace {

std::string refusal_of_launch(const std::string& yaml) {
  const TemporaryFolder folder;
  folder.put("job.yaml", yaml);
  const config::Composed composed = config::compose({folder.path, "job", {}});
  try {
    check_launch(Experiment(composed, folder.path, true), composed);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(CheckLaunch, NamesWhatIsUnknownAndWhere) {
  for (const auto& [yaml, expected] : std::vector<std::pair<std::string, std::string>>{
           {"runner: {hostfle: x}",
            "job.yaml:2: experiment.runner.hostfle is no key of the runner and no "
            "option of torchrun; did you mean 'hostfile'?"},
           {"runner: {quux: 1}",
            "experiment.runner.quux is no key of the runner and no option of torchrun; "
            "there are type, backend, per_node_task, hostfile"},
           {"runner: {type: shh}", "job.yaml:2: experiment.runner.type is 'shh'"},
           {"runner: {slurm: {partion: a}}", "did you mean 'partition'?"},
           {"runner: 3", "experiment.runner must be a mapping"},
           {"supervision: {grace_time: 3}", "job.yaml:2: experiment.supervision.grace_time is no key"},
           {"task: {engine: vlm}", "did you mean 'vllm'?"},
           {"runner: {nnodes: 2, rdzv_conf: a=1, deploy: {port: 1}, hang_detection_timeout: 9}", ""},
           {"runner: {mine: 3}\nother: ${experiment.runner.mine}", ""},
           {"cmds: {my_own: a}\n  envs: {ANY: 1}", ""},
       }) {
    const std::string said = refusal_of_launch("experiment:\n  " + yaml + "\n");
    EXPECT_NE(said.find(expected), std::string::npos) << yaml << ": " << said;
    EXPECT_EQ(said.empty(), expected.empty()) << yaml << ": " << said;
  }
}

}  // namespace
}  // namespace flagscale::launch
