#pragma once

#include <string>

namespace CLI {
class App;
}

namespace flagscale {

// The job that a command is about, as find_experiment() takes it.
void add_experiment_argument(CLI::App& app, std::string& experiment);

}  // namespace flagscale
