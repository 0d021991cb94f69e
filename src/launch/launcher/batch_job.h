#pragma once
// What is handed to a batch system for a configuration.

#include <string>
#include <vector>

#include "launch/experiment.h"
#include "launch/launcher/batch_system.h"

namespace flagscale::launch {

// Whether experiment.runner.type hands the task to a batch system instead of starting it: "kubernetes" does,
// and "slurm" outside of an allocation (inside of one, its hosts are there).
bool is_submitted(const Experiment& experiment);

// command: this program and its words, as they were typed, with absolute paths. nnodes says how many hosts
// (the least of "min:max"), nproc_per_node how many devices on each; where it is not said, Slurm is asked for
// none. Throws Error{kConfig} as Experiment does.
BatchJob batch_job(const Experiment& experiment, const std::string& engine, std::vector<std::string> command);

}  // namespace flagscale::launch
