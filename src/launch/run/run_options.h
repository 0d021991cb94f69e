#pragma once
// How a configuration wants its job watched: experiment.supervision, and FlagScale's own keys of
// experiment.runner.
//
//   supervision: {on_hang: report, grace: 30, limits: {start: 600, …}}      seconds; limits: PhaseLimits
//   runner: {hang_detection_timeout: 1800, lost_timeout: 10}               limits.output; lost_after

#include "config/compose.h"
#include "launch/run/run_job.h"

namespace flagscale::launch {

// Throws Error{kConfig} naming the key, where it stands and what it takes.
RunOptions read_run_options(const config::Composed& composed, const std::vector<std::string>& command_line);

}  // namespace flagscale::launch
