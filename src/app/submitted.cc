#include "app/submitted.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "app/job.h"
#include "base/error.h"
#include "base/log.h"
#include "launch/adapter.h"
#include "launch/launcher/batch_job.h"
#include "launch/record/run_status.h"
#include "launch/run/control.h"

namespace flagscale {

namespace {

namespace fs = std::filesystem;
using Phase = launch::BatchState::Phase;

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

void show_output(std::string_view output) {
  fmt::print("{}", output);
  std::fflush(stdout);
}

std::string_view last_lines(std::string_view text, int lines) {
  if (lines < 0) return text;
  size_t from = text.size();
  if (text.ends_with('\n')) --from;
  for (; lines > 0; --lines) {
    const size_t newline = from == 0 ? text.npos : text.rfind('\n', from - 1);
    if (newline == text.npos) return text;
    from = newline;
  }
  return text.substr(std::min(from + 1, text.size()));
}

void remember(const fs::path& folder, const launch::LauncherOptions& options, const launch::BatchJob& job,
              const std::string& engine, const std::string& id) {
  launch::Submission one;
  one.system = options.type, one.id = id, one.space = options.kubernetes.space;
  one.name = job.name, one.task = job.task, one.log = job.log, one.nodes = job.nodes;
  one.engine = engine, one.submitted = launch::unix_now();
  write_submission(folder, one);
  launch::remember_experiment(folder);
}

// The job is known to the batch system already: what cannot be written down is only told.
void try_to_remember(const fs::path& folder, const launch::LauncherOptions& options,
                     const launch::BatchJob& job, const std::string& engine, const std::string& id) {
  try {
    remember(folder, options, job, engine, id);
  } catch (const Error& error) {
    warn("{}: action=query and stop will not know job {}", error.what(), id);
  }
}

}  // namespace

const char* phase_name(const launch::BatchState& state) {
  if (state.phase == Phase::kWaiting) return "waiting";
  if (state.phase == Phase::kRunning) return "running";
  return state.exit_code == 0 ? "completed" : "failed";
}

std::optional<Submitted> find_submitted(const fs::path& experiment) {
  const auto submission = launch::read_submission(experiment);
  if (!submission) return {};
  Submitted job{*submission, submission->batch_system()->state(submission->id), experiment};
  if (job.state.phase == Phase::kEnded && launch::last_run(experiment)) return {};
  return job;
}

Submitted stop_submitted(Submitted job) {
  job.state = stop_submission(job.submission);
  return job;
}

bool look_after_submitted(const launch::Experiment& experiment, bool json) {
  const std::string action = experiment.text("action", "run");
  if (action != "query" && action != "stop") return false;
  const fs::path folder = experiment.directory();
  auto job = find_submitted(folder);
  if (!job) return false;
  if (action == "stop") job = stop_submitted(*job);
  fmt::print("{}\n", json ? to_json(*job) : describe(*job));
  return true;
}

std::string describe(const Submitted& job) {
  std::string text = fmt::format("{}: {} job {}: {}", job.submission.name, job.submission.system,
                                 job.submission.id, job.state.text);
  const auto run = launch::last_run(job.experiment);
  if (run && run->started >= job.submission.submitted) text += "\n" + launch::describe(*run);
  return text;
}

std::string to_json(const Submitted& job) {
  const launch::Submission& one = job.submission;
  nlohmann::ordered_json json{{"name", one.name},
                              {"state", phase_name(job.state)},
                              {"task", one.task},
                              {"engine", one.engine},
                              {"experiment", job.experiment.string()},
                              {"log", one.log.string()},
                              {"started", one.submitted},
                              {"system", one.system},
                              {"job", one.id},
                              {"text", job.state.text}};
  if (job.state.phase == Phase::kEnded) json["exit_code"] = job.state.exit_code;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

int follow(const Submitted& job) {
  const auto show = [&](const launch::BatchState& state) { info("{}: {}", job.submission.id, state.text); };
  return launch::follow(*job.submission.batch_system(), job.submission.job(), job.submission.id, show,
                        show_output, launch::OnCtrlC::kLeave);
}

void print_output(const Submitted& job, int lines) {
  size_t place = 0;
  const std::string text =
      job.submission.batch_system()->output(job.submission.job(), job.submission.id, place);
  show_output(last_lines(text, lines));
}

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
  const fs::path folder = experiment.directory();
  try_to_remember(folder, options, job, launch::engine_of(experiment, request.engine), id);
  info("{} has job {}{}", options.type, id,
       request.detach ? ": flagscale attach " + folder.string() + " shows it, flagscale stop " +
                            folder.string() + " ends it"
                      : "");
  if (request.detach) return true;
  const int code = launch::follow(
      *system, job, id, [&](const launch::BatchState& state) { info("{}: {}", id, state.text); },
      show_output);
  std::fflush(nullptr);
  if (code != 0) std::exit(code);
  return true;
}

}  // namespace flagscale
