#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>

#include "app/command.h"
#include "app/submitted.h"
#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "launch/record/run_status.h"

namespace flagscale::ps_command {
namespace {

struct Options {
  bool all = false, json = false;
};

// A record that cannot be read hides none of the others.
std::vector<launch::RunStatus> runs_here(bool all) {
  std::vector<launch::RunStatus> runs;
  for (const auto& experiment : launch::remembered_experiments()) try {
      const auto run = launch::last_run(experiment);
      if (run && (all || !is_over(run->state))) runs.push_back(*run);
    } catch (const Error& error) {
      warn("{}", error.what());
    }
  return runs;
}

// Those that wait for a batch system's machines, or run on them under no record that is seen here.
std::vector<Submitted> submitted_here() {
  std::vector<Submitted> jobs;
  for (const auto& experiment : launch::remembered_experiments()) try {
      const auto job = find_submitted(experiment);
      if (!job || job->state.phase == launch::BatchState::Phase::kEnded) continue;
      const auto run = launch::last_run(experiment);
      if (!run || is_over(run->state)) jobs.push_back(*job);
    } catch (const Error& error) {
      warn("{}", error.what());
    }
  return jobs;
}

std::string time_of(const launch::RunStatus& run) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const double end = run.ended > 0 ? run.ended : std::chrono::duration<double>(now).count();
  return is_over(run.state) && run.ended == 0 ? "?" : format_duration(end - run.started);
}

std::string progress_of(const launch::RunStatus& run) {
  for (const auto& rank : run.ranks)
    if (!rank.phase.empty()) return fmt::format("{} {}", rank.phase, rank.iteration);
  return "-";
}

void list(const Options& options) {
  const auto submitted = submitted_here();
  const auto runs = runs_here(options.all);
  if (options.json) {
    std::string out;
    for (const auto& job : submitted) out += (out.empty() ? "" : ",") + to_json(job);
    for (const auto& run : runs) out += (out.empty() ? "" : ",") + to_json(run);
    return fmt::print("[{}]\n", out);
  }
  constexpr const char* kRow = "{:<20} {:<10} {:<10} {:<10} {:>8} {:>5}  {:<16} {}\n";
  fmt::print(fmt::runtime(kRow), "NAME", "TASK", "ENGINE", "STATE", "TIME", "RANKS", "PROGRESS",
             "EXPERIMENT");
  for (const auto& [job, state, experiment] : submitted)
    fmt::print(fmt::runtime(kRow), job.name, job.task, job.engine, phase_name(state),
               format_duration(launch::unix_now() - job.submitted), job.nodes, job.system + " " + job.id,
               experiment.string());
  for (const auto& run : runs)
    fmt::print(fmt::runtime(kRow), run.name, run.task, run.engine, name(run.state), time_of(run),
               run.ranks.size(), progress_of(run), run.experiment.string());
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_flag("--all,-a", options->all, "those that are over too");
  app.add_flag("--json", options->json, "one JSON array: each experiment's last run");
  app.footer("Examples:\n  flagscale ps\n  flagscale ps --all --json");
  app.callback([options] { list(*options); });
}

const Registration<Command> kPs{"ps", {"list the jobs that were started on this machine", &setup}};

}  // namespace
}  // namespace flagscale::ps_command
