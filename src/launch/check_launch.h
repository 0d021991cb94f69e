#pragma once
// What a configuration says of a launch, checked without starting anything.

#include "config/compose.h"
#include "launch/experiment.h"

namespace flagscale::launch {

// experiment.runner, experiment.supervision and the engine's name. Throws Error{kConfig} or
// Error{kInvalidArgument} for what a launch would refuse before it looks at hosts and devices.
void check_launch(const Experiment& experiment, const config::Composed& composed);

}  // namespace flagscale::launch
