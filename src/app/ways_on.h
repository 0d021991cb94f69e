#pragma once
// Where our engine lacks what a configuration asks for, nothing has started yet: what can be done instead.

#include "app/training.h"
#include "base/error.h"

namespace flagscale {

// Throws Error of `error`'s kind: its message, then `--engine yaml`, which runs the engine that the YAML
// names, and, for a training whose layout over ranks is all that is in the way, overrides that have been
// planned and fit in this machine's memory.
[[noreturn]] void rethrow_with_ways_on(const Error& error, const config::Composed& composed,
                                       const TrainingRequest& request);

// Throws Error{kUnsupported} for a training over several hosts, and what is wrong with a hostfile; warns of
// more processes a host than the one that trains.
void check_ranks(const config::Composed& composed);

}  // namespace flagscale
