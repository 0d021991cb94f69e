#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "app/command.h"
#include "app/experiment_argument.h"
#include "app/numbers.h"
#include "app/submitted.h"
#include "launch/run/control.h"
#include "launch/run/read_logs.h"

namespace flagscale::logs_command {
namespace {

struct Options {
  std::string experiment;
  launch::LogOptions logs;
};

void print(const Options& options) {
  const std::filesystem::path experiment = experiment_meant(options.experiment);
  if (!launch::last_run(experiment))
    if (const auto submitted = find_submitted(experiment))
      return options.logs.follow ? static_cast<void>(follow(*submitted))
                                 : print_output(*submitted, options.logs.lines);
  print_logs(launch::query_job(experiment), options.logs, stdout);
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_experiment_argument(app, options->experiment);
  app.add_flag("-f,--follow", options->logs.follow, "go on until the job is over");
  app.add_option("--rank", options->logs.rank, "of this rank alone")->check(between(0, 1 << 20));
  app.add_option("-n,--lines", options->logs.lines, "the last ones of each rank")->check(between(0, 1 << 30));
  app.footer(
      "Examples:\n  flagscale logs outputs/aquila -f\n  flagscale logs outputs/aquila --rank 3 --lines 50\n\n"
      "The files themselves are <exp_dir>/logs/host_<rank>_<host>.output.");
  app.callback([options] { print(*options); });
}

const Registration<Command> kLogs{"logs", {"print what a job's ranks say", &setup}};

}  // namespace
}  // namespace flagscale::logs_command
