#pragma once
// What is done to a run from outside: its record says which processes are its own.

#include <filesystem>

#include "launch/record/run_status.h"

namespace flagscale::launch {

// How the last run stands. Throws Error{kNotFound} where the experiment has none.
RunStatus query_job(const std::filesystem::path& experiment);

// Asks the run to end in order, `now` to be killed, and waits until nothing of it is left; returns how it
// stands then. Of a run that is over it only ends what may be left. Throws Error{kUnsupported} where its
// launcher is on another machine, Error{kResource} where it is another user's, Error{kBusy} where it has not
// ended after `patience` seconds.
RunStatus stop_job(const std::filesystem::path& experiment, bool now = false, double patience = 600);

// One line for people: name, state, where, since when, how far.
std::string describe(const RunStatus& status);

// The experiment that a user means: its folder, or the name of one started on this machine; of several with
// the name the one that runs. Throws Error{kNotFound}, Error{kInvalidArgument} where it may be any of
// several.
std::filesystem::path find_experiment(const std::string& folder_or_name);

}  // namespace flagscale::launch
