#pragma once
// A task of `flagscale run` on a foreign engine.

#include <string>
#include <vector>

#include "config/compose.h"
#include "launch/experiment.h"

namespace flagscale {

// The words that run this configuration again, from any folder; its overrides come behind them. engine,
// device: as --engine and --device have them; empty and "auto" say nothing.
std::vector<std::string> this_run(const config::ComposeRequest& configuration, const std::string& engine,
                                  const std::string& device);

// action=dryrun: writes the job's files and prints its commands; what runs has a launcher (app/launched.h).
// Throws Error.
void run_foreign(const launch::Experiment& experiment, const std::string& engine, bool json);

}  // namespace flagscale
