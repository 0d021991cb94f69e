#pragma once
// What stands beside a task's own keys: `experiment` and the top level of FlagScale's files.

#include "config/compose.h"

namespace flagscale::config {

// Refuses names below `experiment` and `experiment.task` that FlagScale does not have and that no
// interpolation reads, an unknown backend, and what is nearly the name of a section at the top level (where
// variables for interpolations may stand). Throws Error{kConfig} with the place and the nearest name.
void check_experiment(const Composed& composed);

// Whether an interpolation reads the value at `path`, Hydra's own settings included: FlagScale's files keep
// values of their own beside its keys, for ${path}, ${a[b]} or ${.b} elsewhere.
bool is_referred_to(const Node& root, const Node* hydra, const std::string& path);

}  // namespace flagscale::config
