#include "launch/run/run_job.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "launch/agent/agent.h"
#include "launch/job_files.h"
#include "launch/record/experiment_lock.h"
#include "launch/record/run_status.h"
#include "launch/run/supervisor.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

// SIGINT, SIGTERM and SIGHUP as a file, for as long as this lives.
class StopSignals {
 public:
  StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, &before_);
    pipe_ = std::signal(SIGPIPE, SIG_IGN);  // an agent that is gone, a reader of the output that is
    file_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (file_ < 0) fail(ErrorKind::kResource, "cannot listen to signals: {}", std::strerror(errno));
  }
  ~StopSignals() {
    close(file_);
    std::signal(SIGPIPE, pipe_);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  int file() const { return file_; }

 private:
  sigset_t before_{};
  void (*pipe_)(int) = SIG_DFL;
  int file_ = -1;
};

void require_log_folder(const fs::path& log) {
  std::error_code failed;
  fs::create_directories(log, failed);
  if (failed)
    fail(ErrorKind::kResource, "cannot make the log directory {}: {}", log.string(), failed.message());
  if (faccessat(AT_FDCWD, log.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    fail(ErrorKind::kResource, "cannot write to the log directory {}: {}", log.string(),
         std::strerror(errno));
}

// How long agents whose launcher was killed take at most.
constexpr double kLastRunEnds = kOrphanGrace + kLeftoverGrace + 5;

// From the lock to the last process. `on_running` is called once all ranks have started.
int run_to_the_end(const Job& job, RunOptions options, bool shown, std::function<void()> on_running) {
  require_log_folder(job.log);
  if (options.reach) options.reach(options);
  throw_if_interrupted();
  const ExperimentLock lock(job.experiment, std::chrono::duration<double>(kLastRunEnds));
  if (const int ended = end_leftovers(job.experiment); ended > 0)
    warn("{} processes of the last run of {} were still there: ended", ended, job.experiment.string());
  const StopSignals signals;
  throw_if_interrupted();  // until here a signal was the whole program's
  if (job.scripts) write_job_files(job);
  RunRecord record(job, options.origin);
  remember_experiment(job.experiment);
  OpenLink open_link = options.open_link;
  if (!open_link) open_link = [&](const NodeTask&) { return open_local_link(lock.file()); };
  try {
    Supervisor supervisor(job, options, record, open_link, shown);
    return supervisor.run(signals.file(), std::move(on_running));
  } catch (const Error& error) {
    record.culprit(error.what());
    record.finish(RunState::kFailed, exit_code(error.kind()));
    throw;
  }
}

// In the child: a session of its own, no terminal, what it says in a file beside the ranks' output.
void leave_terminal(const fs::path& log) {
  setsid();
  const int null = open("/dev/null", O_RDWR);
  const int said = open((log / "launcher.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(null, STDIN_FILENO);
  dup2(said >= 0 ? said : null, STDOUT_FILENO);
  dup2(said >= 0 ? said : null, STDERR_FILENO);
  close(null);
  if (said >= 0) close(said);
}

// '+', or '-', the kind of an error and its words.
void tell(int& parent, const std::string& news) {
  if (parent < 0) return;
  [[maybe_unused]] const ssize_t written = write(parent, news.data(), news.size());
  close(std::exchange(parent, -1));
}

[[noreturn]] void run_in_background(const Job& job, const RunOptions& options, int parent) {
  const auto complain = [&](ErrorKind kind, const std::string& what) {
    tell(parent, fmt::format("-{}{}", static_cast<char>('0' + static_cast<int>(kind)), what));
  };
  int code = 1;
  try {
    code = run_to_the_end(job, options, false, [&] { tell(parent, "+"); });
    const auto run = last_run(job.experiment);
    complain(ErrorKind::kResource,
             run && !run->culprit.empty() ? run->culprit : job.name + " has ended already");
  } catch (const Error& error) {
    complain(error.kind(), error.what());
    warn("{}", error.what());
    code = exit_code(error.kind());
  }
  _exit(code);
}

int detach(const Job& job, const RunOptions& options) {
  require_log_folder(job.log);  // before anything could say so only in there
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail(ErrorKind::kResource, "cannot make a pipe: {}", std::strerror(errno));
  std::fflush(nullptr);
  const int child = fork();
  if (child < 0) fail(ErrorKind::kResource, "cannot start in the background: {}", std::strerror(errno));
  if (child == 0) {
    close(ends[0]);
    leave_terminal(job.log);
    run_in_background(job, options, ends[1]);
  }
  close(ends[1]);
  std::string news;
  char buffer[4096];
  for (bool asked = false;;) {
    pollfd ready{ends[0], POLLIN, 0};
    poll(&ready, 1, -1);
    if (interrupted() && !std::exchange(asked, true)) kill(child, SIGTERM);  // it has no terminal
    if ((ready.revents & (POLLIN | POLLHUP)) == 0) continue;
    const ssize_t got = read(ends[0], buffer, sizeof buffer);
    if (got <= 0) break;
    news.append(buffer, static_cast<size_t>(got));
  }
  close(ends[0]);
  if (news.starts_with('+')) return 0;
  if (news.size() < 2) fail(ErrorKind::kResource, "the launcher was killed before the job ran");
  throw Error(static_cast<ErrorKind>(news[1] - '0'), news.substr(2));
}

}  // namespace

int run_job(const Job& job, const RunOptions& options) {
  if (job.nodes.empty()) fail(ErrorKind::kInvalidArgument, "{} has no host to run on", job.name);
  return options.detach ? detach(job, options) : run_to_the_end(job, options, true, nullptr);
}

}  // namespace flagscale::launch
