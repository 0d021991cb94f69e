#include "launch/run/own_run.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <optional>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/heartbeat.h"
#include "base/log.h"
#include "base/transcript.h"
#include "launch/agent/agent.h"
#include "launch/agent/heartbeats.h"
#include "launch/record/experiment_lock.h"
#include "launch/record/run_status.h"
#include "launch/run/progress.h"
#include "launch/run/verdict.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

class OwnRun {
 public:
  using Clock = std::chrono::steady_clock;

  OwnRun(const Job& job, const std::function<RunOrigin()>& origin) : job_(job), origin_(origin) {
    refuse_a_second();
    hear_own_beats([this](std::string_view line) { hear(line); });
  }
  ~OwnRun() {
    hear_own_beats(nullptr);
    if (record_) end(RunState::kFailed, 1, "it ended without a word");
  }
  OwnRun(const OwnRun&) = delete;
  OwnRun& operator=(const OwnRun&) = delete;

  void begin() try {
    lock_.emplace(job_.experiment, std::chrono::duration<double>(kLastRunEnds));
    if (const int ended = end_leftovers(job_.experiment); ended > 0)
      warn("{} processes of the last run of {} were still there: ended", ended, job_.experiment.string());
    record_.emplace(job_, origin_());
    remember_experiment(job_.experiment);
    const ProcessId self = process_id(getpid());
    record_->agent(rank_, self, machine_name());
    record_->started(rank_, self, "");
    record_->state(RunState::kRunning);
    keep_log();
    write_progress();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kBusy || error.kind() == ErrorKind::kInterrupted) throw;
    go_without(error.what());
  } catch (const fs::filesystem_error& error) {
    go_without(error.what());
  }

  void end(RunState state, int code, const std::string& why) {
    if (!record_) return;
    if (!why.empty()) transcribe("flagscale: error: " + why + "\n");
    hear_own_beats(nullptr);
    write_progress();
    progress_.end(Clock::now(), *record_);
    record_->exited(rank_, {code, 0}, state == RunState::kStopped);
    if (state == RunState::kFailed) record_->culprit(why);
    if (state == RunState::kFailed) write_diagnostic_files(job_.log / "monitor", job_.nodes);
    std::error_code ignored;
    fs::remove(pid_file(), ignored);
    record_->finish(state, code);
    record_.reset();
    lock_.reset();
  }

 private:
  // Before anything is planned, or a port is found taken.
  void refuse_a_second() const {
    std::optional<RunStatus> run;
    try {
      run = last_run(job_.experiment);
    } catch (const Error&) {  // begin() has the words for it
    }
    if (run && run->launcher_runs) complain_if_it_runs(job_.experiment);
  }

  void go_without(const std::string& why) {
    record_.reset();
    lock_.reset();
    warn("{}: this run has no record, and ps, query and stop do not know it", why);
  }

  fs::path pid_file() const { return job_.log / "pids" / (job_.nodes.at(0).output.stem().string() + ".pid"); }

  void keep_log() {
    std::error_code failed;
    fs::create_directories(job_.log / "pids", failed);
    std::ofstream(pid_file()) << getpid() << '\n';
    try {
      transcript_.open(job_.nodes.at(0).output);
    } catch (const Error& error) {
      warn("{}: what it says is only here", error.what());
    }
  }

  // No row a step: what is between two is passed over.
  void hear(std::string_view line) {
    beat_ = line;
    const auto now = Clock::now();
    if (!record_ || (line.starts_with("step ") && now - written_ < kBetweenRows)) return;
    write_progress();
  }

  void write_progress() {
    written_ = Clock::now();
    const auto beat = parse_beat("", beat_);
    if (!beat) return;
    Report report{.kind = Report::Kind::kBeat};
    report.phase = beat->phase, report.iteration = beat->iteration, report.metrics = beat->metrics;
    progress_.beat(report, written_, *record_);
  }

  // How long what a killed launcher left takes at most to end.
  static constexpr double kLastRunEnds = kOrphanGrace + kLeftoverGrace + 5;
  static constexpr std::chrono::seconds kBetweenRows{1};

  const Job& job_;
  const std::function<RunOrigin()>& origin_;
  const int rank_ = job_.nodes.at(0).rank;
  Transcript transcript_;
  std::optional<ExperimentLock> lock_;
  std::optional<RunRecord> record_;  // from begin() to end()
  Progress progress_{rank_};
  std::string beat_;  // the last one's line
  Clock::time_point written_;
};

}  // namespace

void run_in_this_process(const Job& job, const std::function<RunOrigin()>& origin,
                         const std::function<void(const std::function<void()>& begin)>& work) {
  OwnRun run(job, origin);
  try {
    work([&] { run.begin(); });
    if (std::fflush(stdout) != 0 || std::ferror(stdout))  // which main() says
      return run.end(RunState::kFailed, 1, fmt::format("cannot write the output: {}", std::strerror(errno)));
    // A service goes on until it is stopped.
    run.end(job.task == "serve" ? RunState::kStopped : RunState::kCompleted, 0, "");
  } catch (const Error& error) {
    const bool stopped = error.kind() == ErrorKind::kInterrupted;
    run.end(stopped ? RunState::kStopped : RunState::kFailed, exit_code(error.kind()), error.what());
    throw;
  } catch (const std::bad_alloc&) {
    run.end(RunState::kFailed, 1, "out of memory");
    throw;
  } catch (const std::exception& error) {
    run.end(RunState::kFailed, 1, error.what());
    throw;
  }
}

}  // namespace flagscale::launch
