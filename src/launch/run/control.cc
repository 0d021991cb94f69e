#include "launch/run/control.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "launch/record/experiment_lock.h"
#include "launch/record/run_record.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

bool anything_runs(const RunStatus& run) {
  if (run.launcher_runs) return true;
  for (const RankStatus& rank : run.ranks)
    if (rank.agent_host == run.host && (runs(rank.agent) || runs(rank.process))) return true;
  return false;
}

std::string owner_of(int pid) {
  struct stat status{};
  if (stat(fmt::format("/proc/{}", pid).c_str(), &status) != 0) return "another user";
  const passwd* user = getpwuid(status.st_uid);
  return user ? user->pw_name : fmt::format("user {}", status.st_uid);
}

// Another user's launcher would not hear of it, and be waited for.
void require_own(const RunStatus& run) {
  if (!run.launcher_runs || kill(run.launcher.pid, 0) == 0 || errno != EPERM) return;
  fail(ErrorKind::kResource, "{} was started by {}: only that user may stop it, or root",
       run.experiment.string(), owner_of(run.launcher.pid));
}

}  // namespace

RunStatus query_job(const fs::path& experiment) {
  const auto run = last_run(experiment);
  if (!run) fail(ErrorKind::kNotFound, "{} has no run on record", experiment.string());
  return *run;
}

RunStatus stop_job(const fs::path& experiment, bool now, double patience) {
  RunStatus run = query_job(experiment);
  if (!run.here && !is_over(run.state))
    fail(ErrorKind::kUnsupported, "{} was started on {}: stop it there", experiment.string(), run.host);
  if (!run.here || run.boot != boot_id()) return run;
  require_own(run);
  if (!run.launcher_runs) end_leftovers(experiment);
  send_signal(run.launcher, SIGTERM);
  if (now) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // two signals at once are one
    send_signal(run.launcher, SIGTERM);
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience);
  while (anything_runs(run)) {
    throw_if_interrupted();
    if (std::chrono::steady_clock::now() > end)
      fail(ErrorKind::kBusy, "{} has not ended after {:.0f} s: flagscale stop --now {} kills it",
           experiment.string(), patience, experiment.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // Nobody is left who would end it: its launcher and an agent were killed together.
    if (run = query_job(experiment); !run.launcher_runs) end_leftovers(experiment);
  }
  if (run = query_job(experiment); run.is_one_process() && run.ended == 0)
    RunRecord::stopped(experiment, run.id, 128 + SIGTERM);
  return query_job(experiment);
}

std::string describe(const RunStatus& run) {
  std::string text = fmt::format("{} {}", run.name, name(run.state));
  if (run.exit_code && *run.exit_code != 0) text += fmt::format(" (exit code {})", *run.exit_code);
  if (run.ended > 0)
    text += fmt::format(", after {}", format_duration(run.ended - run.started));
  else if (!is_over(run.state))  // else its launcher was killed, nobody knows when
    text += fmt::format(", for {}", format_duration(unix_now() - run.started));
  if (run.restarts > 0) text += fmt::format(", {} of {} restarts", run.restarts, run.max_restarts);
  for (const RankStatus& rank : run.ranks)
    if (!rank.phase.empty()) {
      text += fmt::format(", {} {}", rank.phase, rank.iteration);
      break;
    }
  if (const auto loss = run.metrics.find("lm_loss"); loss != run.metrics.end())
    text += fmt::format(", lm loss {:.4f}", loss->second);
  if (const auto speed = run.metrics.find("tokens_per_second"); speed != run.metrics.end())
    text += fmt::format(", {:.0f} tokens/s", speed->second);
  if (!run.culprit.empty() && (run.state == RunState::kFailed || run.state == RunState::kRestarting))
    text += "\n" + run.culprit;
  return text;
}

fs::path find_experiment(const std::string& wanted) {
  std::error_code ignored;
  fs::path folder = fs::absolute(wanted).lexically_normal();
  if (fs::exists(records_folder(folder), ignored)) return folder;
  std::vector<fs::path> found, running;
  for (const fs::path& experiment : remembered_experiments()) {
    const auto run = last_run(experiment);
    if (!run || run->name != wanted) continue;
    found.push_back(experiment);
    if (!is_over(run->state)) running.push_back(experiment);
  }
  if (running.size() == 1) return running[0];
  if (found.size() == 1) return found[0];
  if (found.empty())
    fail(ErrorKind::kNotFound,
         "'{}' is no experiment's folder, nor the name of one started here: flagscale ps --all", wanted);
  std::string list;
  for (const fs::path& path : found) list += "\n  " + path.string();
  fail(ErrorKind::kInvalidArgument, "there are several experiments named {}: give a folder{}", wanted, list);
}

}  // namespace flagscale::launch
