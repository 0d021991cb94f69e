#include "app/experiment_argument.h"

#include <CLI/CLI.hpp>

namespace flagscale {

void add_experiment_argument(CLI::App& app, std::string& experiment) {
  app.add_option("experiment", experiment, "its folder (exp_dir), or the name of one started here")
      ->required();
}

}  // namespace flagscale
