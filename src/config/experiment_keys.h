#pragma once
// What stands beside a task's own keys: `experiment` and the top level of FlagScale's files.

#include "config/compose.h"

namespace flagscale::config {

// Refuses names below `experiment` and `experiment.task` that FlagScale does not have and that no
// interpolation reads, and what is nearly the
// name of a section at the top level (where variables for interpolations may stand) or of a backend. Throws
// Error{kConfig} with the place and the nearest name.
void check_experiment(const Composed& composed);

}  // namespace flagscale::config
