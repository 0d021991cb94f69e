#pragma once
// Tasks that experiment.runner.type hands to a batch system: Slurm or Kubernetes.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/compose.h"
#include "launch/experiment.h"
#include "launch/launcher/submission.h"

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

// action=query and stop of the last one that was handed in; false for another action, and where the record
// says more.
bool look_after_submitted(const launch::Experiment& experiment, bool json);

// The experiment's last submission as its batch system has it, where that says more than the record: it is
// not over, or has left none.
struct Submitted {
  launch::Submission submission;
  launch::BatchState state;
  std::filesystem::path experiment;
};
const char* phase_name(const launch::BatchState& state);  // as a run's state is called
std::optional<Submitted> find_submitted(const std::filesystem::path& experiment);

Submitted stop_submitted(Submitted job);     // and waits for its end
std::string describe(const Submitted& job);  // one line, and what the job's own record says
std::string to_json(const Submitted& job);   // one object
int follow(const Submitted& job);  // prints until its end, with its exit code; Ctrl-C leaves it: 130
void print_output(const Submitted& job, int lines);  // the last ones; -1: all

}  // namespace flagscale
