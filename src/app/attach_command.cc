#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "app/command.h"
#include "app/experiment_argument.h"
#include "app/numbers.h"
#include "app/submitted.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "launch/run/control.h"
#include "launch/run/read_logs.h"

namespace flagscale::attach_command {
namespace {

// Ends as the job does, with its exit code; Ctrl-C only leaves it.
void attach(const std::string& experiment, int lines) {
  const std::filesystem::path folder = experiment_meant(experiment);
  if (const auto submitted = find_submitted(folder)) {
    const int code = follow(*submitted);
    if (interrupted())
      info("\nleft {}, which goes on: flagscale stop {} ends it", experiment, folder.string());
    throw ExitCode{interrupted() ? 0 : code};
  }
  launch::RunStatus run = launch::query_job(folder);
  info("{}", describe(run));
  if (!is_over(run.state)) try {
      print_logs(run, {.rank = {}, .lines = lines, .follow = true}, stdout);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kInterrupted) throw;
      return info("\nleft {}, which runs on: flagscale stop {} ends it", run.name, folder.string());
    }
  run = launch::query_job(folder);
  if (run.state != launch::RunState::kCompleted) info("{}", describe(run));
  throw ExitCode{run.exit_code.value_or(run.state == launch::RunState::kCompleted ? 0 : 1)};
}

void setup(CLI::App& app) {
  const auto experiment = std::make_shared<std::string>();
  const auto lines = std::make_shared<int>(10);
  add_experiment_argument(app, *experiment);
  app.add_option("-n,--lines", *lines, "of what was said before")
      ->capture_default_str()
      ->check(between(0, 1 << 30));
  app.footer(
      "Examples:\n  flagscale attach outputs/aquila\n\n"
      "Ends when the job does, with its exit code. Ctrl-C leaves the job running.");
  app.callback([experiment, lines] { attach(*experiment, *lines); });
}

const Registration<Command> kAttach{"attach", {"follow a job that runs elsewhere", &setup}};

}  // namespace
}  // namespace flagscale::attach_command
