#pragma once
// Training through torchrun, as FlagScale starts it: one torchrun a host around the configuration's
// entrypoint.

#include <string>
#include <vector>

#include "launch/adapter.h"

namespace flagscale::launch {

// `train` with what FlagScale fills in: paths of checkpoints and logs, absolute.
config::NodePtr train_tree(const Experiment& experiment, const Job& job);

// train.system, .model and .data as one mapping; of two entries of one name the later counts.
config::NodePtr merged_sections(const config::Node& train);

// Fills job.nodes and job.folders. arguments: the entrypoint's.
void fill_torchrun(const Experiment& experiment, const Placement& placement, const config::Node& train,
                   const std::vector<std::string>& arguments, Job& job);

}  // namespace flagscale::launch
