#pragma once
// Where this program is, for whoever starts it again.

#include <string>

#include "launch/launcher/options.h"

namespace flagscale::launch {

// options.program, or else the file that this process runs. Error{kNotFound} where it has been removed or
// replaced since.
std::string this_program(const LauncherOptions& options);

}  // namespace flagscale::launch
