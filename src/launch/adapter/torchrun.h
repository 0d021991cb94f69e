#pragma once
// Training through torchrun, as FlagScale starts it: one torchrun a host around the configuration's
// entrypoint.

#include <string>
#include <vector>

#include "launch/adapter.h"

namespace flagscale::launch {

// Fills job.nodes and job.folders. arguments: the entrypoint's.
void fill_torchrun(const Experiment& experiment, const Placement& placement, const config::Node& train,
                   const std::vector<std::string>& arguments, Job& job);

}  // namespace flagscale::launch
