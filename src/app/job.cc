#include "app/job.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "launch/adapter.h"
#include "launch/job_files.h"
#include "launch/run/dry_run.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;

void print_plan(const launch::Job& job, bool json) {
  if (json) return fmt::print("{}\n", to_json(job));
  for (const launch::NodeTask& task : job.nodes) {
    fmt::print("# {} on {}{}, in {}\n", job.engine, task.host.name,
               job.container.empty() ? "" : ", container " + job.container, task.command.directory.string());
    for (const launch::Command& before : task.prepare) fmt::print("{}\n", shell_text(before));
    fmt::print("{}\n", shell_text(task.command));
  }
}

}  // namespace

std::vector<std::string> this_run(const config::ComposeRequest& configuration, const std::string& engine,
                                  const std::string& device) {
  std::vector<std::string> words{fs::read_symlink("/proc/self/exe"),
                                 "run",
                                 "--config-path",
                                 fs::absolute(configuration.folder).lexically_normal(),
                                 "--config-name",
                                 configuration.name};
  if (!engine.empty()) words.insert(words.end(), {"--engine", engine});
  if (device != "auto") words.insert(words.end(), {"--device", device});
  return words;
}

void run_foreign(const launch::Experiment& experiment, const std::string& engine, bool json) {
  if (experiment.text("action", "run") != "dryrun")  // run_launched() has the others
    fail(ErrorKind::kInvalidArgument,
         "--json prints a foreign engine's commands: it goes with action=dryrun");
  const launch::Job job = launch::make_job(experiment, engine);
  print_plan(job, json);
  if (const auto state = write_dry_run(job))
    return warn("{} is {}: its scripts and resolved configuration stay as they are", job.name,
                launch::name(*state));
  info("written: {}", (job.log / "scripts").string());
}

}  // namespace flagscale
