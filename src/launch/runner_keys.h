#pragma once
// The keys of experiment.runner: the launcher's own, and the options of torchrun.

#include "config/node.h"
#include "launch/experiment.h"

namespace flagscale::launch {

// Whether a key is passed on to torchrun: it is no key of the launcher's. Throws Error{kConfig} for one that
// is nearly the name of a key or option: it would break the launch on every host. What is new in torchrun
// passes.
bool is_torchruns(const config::Entry& entry);

// Throws Error{kConfig}, with the place and the nearest name, for a key that is neither and that no
// interpolation of the whole configuration reads.
void check_runner_keys(const config::Node& runner, const Experiment& e);

}  // namespace flagscale::launch
