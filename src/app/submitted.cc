#include "app/submitted.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "app/job.h"
#include "base/log.h"
#include "launch/launcher/batch_job.h"

namespace flagscale {

namespace {

std::vector<std::string> typed_again(const SubmitRequest& request) {
  std::vector<std::string> words = this_run(request.configuration, request.engine, request.device);
  for (const std::string& override : request.configuration.overrides)
    if (override.compare(std::min(override.find_first_not_of('+'), override.size()), 7, "action=") != 0)
      words.push_back(override);
  words.push_back("++action=run");  // a dry run shows what would run
  return words;
}

void show_files(const launch::BatchSystem& system, const launch::BatchJob& job) {
  const auto files = system.files(job);
  write_batch_files(files);
  for (const launch::BatchFile& file : files) {
    fmt::print("{}", file.text);
    info("written: {}", file.path.string());
  }
}

}  // namespace

bool run_submitted(const SubmitRequest& request) {
  const launch::Experiment& experiment = request.experiment;
  const std::string action = experiment.text("action", "run");
  if ((action != "run" && action != "dryrun") || !launch::is_submitted(experiment)) return false;
  const launch::LauncherOptions options = launch::read_launcher_options(*experiment.map("experiment.runner"));
  const auto system = launch::make_batch_system(options.type, options);
  const launch::BatchJob job = launch::batch_job(experiment, request.engine, typed_again(request));
  if (action == "dryrun") {
    show_files(*system, job);
    return true;
  }
  const std::string id = system->submit(job);
  info("{} has job {}", options.type, id);
  if (request.detach) return true;
  const int code = launch::follow(
      *system, job, id, [&](const launch::BatchState& state) { info("{}: {}", id, state.text); },
      [](std::string_view output) {
        fmt::print("{}", output);
        std::fflush(stdout);
      });
  std::fflush(nullptr);
  if (code != 0) std::exit(code);
  return true;
}

}  // namespace flagscale
