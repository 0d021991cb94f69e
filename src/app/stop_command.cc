#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "app/command.h"
#include "app/experiment_argument.h"
#include "app/submitted.h"
#include "launch/run/control.h"

namespace flagscale::stop_command {
namespace {

struct Options {
  std::string experiment;
  bool now = false, json = false;
};

void stop(const Options& options) {
  const std::filesystem::path experiment = experiment_meant(options.experiment);
  if (const auto submitted = find_submitted(experiment)) {
    const Submitted job = stop_submitted(*submitted);
    return fmt::print("{}\n", options.json ? to_json(job) : describe(job));
  }
  const launch::RunStatus run = launch::stop_job(experiment, options.now);
  fmt::print("{}\n", options.json ? to_json(run) : describe(run));
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_experiment_argument(app, options->experiment);
  app.add_flag("--now", options->now, "kill it, without the time in which it could save its work");
  app.add_flag("--json", options->json, "how the run ended, as one JSON object");
  app.footer(
      "Examples:\n  flagscale stop outputs/aquila\n  flagscale stop outputs/aquila --now\n\n"
      "Ends that job's own processes and no others, and returns when nothing of it is left.");
  app.callback([options] { stop(*options); });
}

const Registration<Command> kStop{"stop", {"end a job in order", &setup}};

}  // namespace
}  // namespace flagscale::stop_command
