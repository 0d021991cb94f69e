// Megatron-LM, through FlagScale's training scripts.

#include "launch/adapter/torchrun.h"
#include "launch/adapter/train_tree.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace megatron {
namespace {

void fill(const Experiment& experiment, const Placement& placement, Job& job) {
  const config::NodePtr train = train_tree(experiment, job);
  const FlagStyle style{.without = {"log_dir", "details_dir", "scripts_dir", "pids_dir"}};
  fill_torchrun(experiment, placement, *train, flags_of(*merged_sections(*train), style), job);
}

const Registration<Adapter> kMegatron{"megatron",
                                      {"Megatron-LM through FlagScale's scripts", {"train"}, &fill}};

}  // namespace
}  // namespace megatron
}  // namespace flagscale::launch
