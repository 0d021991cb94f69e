#pragma once
// Tasks that experiment.runner.type hands to a batch system: Slurm or Kubernetes.

#include <string>

#include "config/compose.h"
#include "launch/experiment.h"

namespace flagscale {

struct SubmitRequest {
  const config::ComposeRequest& configuration;
  const launch::Experiment& experiment;
  std::string engine, device;  // as --engine and --device have them
  bool detach = false;
};

// False where the task is no batch system's, or its action is neither run nor dryrun. action=dryrun writes
// and prints what would be handed in; run hands it in and, unless it is detached, shows its states and output
// until it has ended; this process then ends with the job's exit code. Throws Error.
bool run_submitted(const SubmitRequest& request);

}  // namespace flagscale
