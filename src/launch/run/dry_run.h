#pragma once
// What a dry run of a foreign engine leaves: the files that its commands read, and its scripts.

#include <optional>

#include "launch/job.h"
#include "launch/record/run_state.h"

namespace flagscale::launch {

// Writes them. While a run of the experiment is there they are its own: then nothing is written, and its
// state is returned.
std::optional<RunState> write_dry_run(const Job& job);

}  // namespace flagscale::launch
