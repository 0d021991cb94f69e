#pragma once
// The `train` section as FlagScale's training scripts read it.

#include "launch/adapter.h"

namespace flagscale::launch {

// `train` with what FlagScale fills in: paths of checkpoints and logs, absolute.
config::NodePtr train_tree(const Experiment& experiment, const Job& job);

// train.system, .model and .data as one mapping; of two entries of one name the later counts.
config::NodePtr merged_sections(const config::Node& train);

}  // namespace flagscale::launch
