#include "app/experiment_argument.h"

#include <CLI/CLI.hpp>

#include "launch/launcher/submission.h"
#include "launch/record/run_status.h"
#include "launch/run/control.h"

namespace flagscale {

namespace fs = std::filesystem;

void add_experiment_argument(CLI::App& app, std::string& experiment) {
  app.add_option("experiment", experiment, "its folder (exp_dir), or the name of one started here")
      ->required();
}

fs::path experiment_meant(const std::string& wanted) {
  std::error_code ignored;
  std::vector<fs::path> found;
  if (!fs::exists(wanted, ignored))
    for (const fs::path& one : launch::remembered_experiments())
      if (const auto submission = launch::read_submission(one); submission && submission->name == wanted)
        found.push_back(one);
  return found.size() == 1 ? found[0] : launch::find_experiment(wanted);
}

}  // namespace flagscale
