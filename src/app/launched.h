#pragma once
// Tasks of `flagscale run` that have a launcher of their own (launch/run): what starts again, runs in the
// background, on other hosts or on a foreign engine; and what is done to them afterwards.

#include <string>
#include <vector>

#include "config/compose.h"

namespace flagscale {

struct LaunchRequest {
  const config::Composed& composed;
  const config::ComposeRequest& configuration;
  std::string engine;  // as engine_of() has it
  bool detach = false, json = false;
};

// action=stop or query of any task; run or test of a foreign engine's, and of our own where it is detached,
// has experiment.runner.max_restarts or experiment.supervision. False where it is none of these, and in the
// process that a launcher has started. Throws ExitCode with the job's, Error.
bool run_launched(const LaunchRequest& request);

}  // namespace flagscale
