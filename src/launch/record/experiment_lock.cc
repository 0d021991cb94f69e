#include "launch/record/experiment_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "launch/agent/cgroup.h"
#include "launch/record/run_record.h"
#include "launch/record/run_status.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

using LockClock = std::chrono::steady_clock;

}  // namespace

void complain_if_it_runs(const fs::path& experiment) {
  const auto run = last_run(experiment);
  if (!run || is_over(run->state)) return;
  fail(ErrorKind::kBusy,
       "{} is running already (run {}, launcher {} on {}): flagscale attach {} shows it, flagscale stop {} "
       "ends it",
       experiment.string(), run->id, run->launcher.pid, run->host, experiment.string(), experiment.string());
}

ExperimentLock::ExperimentLock(const fs::path& experiment, std::chrono::duration<double> patience) {
  const fs::path folder = records_folder(experiment);
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) fail(ErrorKind::kResource, "cannot make {}: {}", folder.string(), failed.message());
  file_ = open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file_ < 0)
    fail(ErrorKind::kResource, "cannot write {}: {}", (folder / "lock").string(), std::strerror(errno));
  const auto end = LockClock::now() + patience;
  for (bool told = false; flock(file_, LOCK_EX | LOCK_NB) != 0; told = true) {
    try {
      throw_if_interrupted();
      complain_if_it_runs(experiment);
      if (LockClock::now() >= end)
        fail(ErrorKind::kBusy, "the last run of {} has not ended yet, though its launcher has",
             experiment.string());
    } catch (const Error&) {
      close(file_);
      throw;
    }
    if (!told) info("waiting for the processes of the last run of {} to end", experiment.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

ExperimentLock::~ExperimentLock() { close(file_); }

int end_leftovers(const fs::path& experiment) {
  std::optional<RunStatus> run;
  try {
    run = last_run(experiment);
  } catch (const Error& error) {  // it says nothing: the next record puts it aside
    if (error.kind() != ErrorKind::kCorrupt) throw;
  }
  if (!run || !run->here || run->launcher_runs || run->boot != boot_id()) return 0;
  int ended = 0;
  for (const RankStatus& rank : run->ranks) {
    if (rank.agent_host != run->host || runs(rank.agent)) continue;
    const Cgroup cgroup{rank.cgroup};
    cgroup.kill();
    if (runs(rank.process)) {  // and is no zombie that nobody has waited for
      for (const ProcessId& process : descendants(rank.process.pid)) ended += send_signal(process, SIGKILL);
      ended += send_signal(rank.process, SIGKILL);
    }
    cgroup.remove_soon();
  }
  return ended;
}

}  // namespace flagscale::launch
