#pragma once

#include <filesystem>
#include <string>

namespace CLI {
class App;
}

namespace flagscale {

// The job that a command is about: its folder, or its name.
void add_experiment_argument(CLI::App& app, std::string& experiment);

// As find_experiment() finds it, or among those that were handed to a batch system.
std::filesystem::path experiment_meant(const std::string& wanted);

}  // namespace flagscale
