#pragma once
// The ranks of a training of our own as a launcher starts them: each this program again.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/compose.h"
#include "launch/experiment.h"
#include "launch/job.h"
#include "launch/launcher/launcher.h"
#include "launch/placement.h"
#include "launch/run/run_job.h"

namespace flagscale {

// In a rank's environment: it is the work itself.
inline constexpr const char* kIsRank = "FLAGSCALE_LAUNCHED";

// The variables are torchrun's. words: what each of them runs.
std::vector<launch::NodeTask> rank_tasks(const launch::Placement& placement,
                                         const std::vector<std::string>& words,
                                         const std::filesystem::path& log);

// Where nnodes is MIN:MAX: of the processes that the hosts have as many train as share each global batch
// evenly. None where it is a number. Both outlive it. Throws Error{kUnsupported} for a launcher that cannot
// do it.
std::optional<launch::Elastic> elastic_ranks(const config::Composed& composed,
                                             const launch::Experiment& experiment,
                                             const std::vector<std::string>& words,
                                             const std::filesystem::path& log);

// Reaches the job's hosts; of an elastic one at least as many as it needs, with a warning for each of the
// others. Throws as Launcher::prepare() does.
void reach_hosts(launch::Launcher& launcher, const launch::Job& job,
                 const std::optional<launch::Elastic>& elastic);

}  // namespace flagscale
