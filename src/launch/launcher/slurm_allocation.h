#pragma once
// Inside a Slurm allocation (a batch script, salloc's shell): the hosts that it has.

#include <optional>
#include <vector>

#include "launch/job.h"
#include "launch/launcher/rank_from_environment.h"

namespace flagscale::launch {

// In Slurm's order, each with the devices that were asked for there (SLURM_GPUS_ON_NODE, the same on every
// host; 0 where none were). Empty outside of an allocation, and in a step of one, whose task was started to
// be a part, not to start others. Throws Error{kConfig} for a node list that does not parse.
std::optional<std::vector<Host>> allocated_hosts(const Environment& environment = ::getenv);

}  // namespace flagscale::launch
