#pragma once
// Tasks of `flagscale run` that have a launcher of their own (launch/run): what starts again, runs in the
// background, on other hosts or on a foreign engine; and what is done to them afterwards.

#include <functional>
#include <string>
#include <vector>

#include "config/compose.h"
#include "launch/experiment.h"

namespace flagscale {

struct LaunchRequest {
  const config::Composed& composed;
  const config::ComposeRequest& configuration;
  const launch::Experiment& experiment;
  std::string engine;  // as engine_of() has it
  std::string device;  // as --device has it
  bool detach = false, json = false;
};

// Whether a training of our own has several ranks, which share each global batch: more than one host, or
// nproc_per_node. In the YAML of another backend these count that one's devices: one process trains there.
bool has_ranks(const launch::Experiment& experiment);
// How many, and how many of them on a host; 1 where that is known only once they start (a cloud's, nnodes:
// MIN:MAX).
struct PlannedRanks {
  int all = 1, of_host = 1;
};
PlannedRanks planned_ranks(const launch::Experiment& experiment);

// action=stop or query of any task; run or test of a foreign engine's, and of our own where it is detached,
// has several ranks, experiment.runner.max_restarts or experiment.supervision. False where it is none of
// these, and in the process that a launcher has started. Throws ExitCode with the job's, Error.
bool run_launched(const LaunchRequest& request);

// What of our own has no launcher: `work`, in this process, on record where action=run has an exp_dir and no
// other launcher looks after it. `work` calls `begin` once nothing stands in its way, before it writes.
void run_here(const LaunchRequest& request,
              const std::function<void(const std::function<void()>& begin)>& work);

}  // namespace flagscale
