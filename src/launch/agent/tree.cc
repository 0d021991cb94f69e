#include "launch/agent/tree.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "launch/agent/agent.h"

namespace flagscale::launch {

namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::chrono::milliseconds kLookAtDying{20};  // between looks while a tree ends
constexpr Seconds kLongestDeath{10};  // after SIGKILL: a process in the kernel's uninterruptible sleep

ProcessTree::Clock::time_point after(ProcessTree::Clock::time_point now, Seconds seconds) {
  return now + std::chrono::duration_cast<ProcessTree::Clock::duration>(seconds);
}

}  // namespace

void ProcessTree::own(int head, Cgroup cgroup) {
  head_ = process_id(head);
  cgroup_ = std::move(cgroup);
  head_reaped_ = false;
  survivors_.clear();
  stage_ = Stage::kRuns;
}

std::optional<ExitStatus> ProcessTree::reap() {
  std::optional<ExitStatus> ended;
  int status = 0;
  for (int pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid != head_.pid || head_reaped_) continue;
    head_reaped_ = true;
    ended = exit_status(status);
    if (stage_ == Stage::kKilled) continue;
    // Stopping already: what is left has the rest of that time, but no more than leftovers get.
    const auto limit = after(Clock::now(), Seconds(kLeftoverGrace));
    deadline_ = stage_ == Stage::kAsked ? std::min(deadline_, limit) : limit;
    stage_ = Stage::kLeft;
  }
  return ended;
}

void ProcessTree::stop(Seconds grace) {
  const auto deadline = after(Clock::now(), grace);
  if (stage_ == Stage::kRuns) {
    ::kill(head_.pid, SIGTERM);  // our child and not reaped: the number is its own
    stage_ = Stage::kAsked;
    deadline_ = deadline;
  } else if (stage_ != Stage::kKilled) {
    deadline_ = std::min(deadline_, deadline);
  }
}

void ProcessTree::kill_all() const {
  cgroup_.kill();
  for (const ProcessId& process : descendants(getpid())) send_signal(process, SIGKILL);
}

bool ProcessTree::finish() {
  cgroup_.remove();
  head_ = {};
  stage_ = Stage::kEmpty;
  return true;
}

bool ProcessTree::advance(Clock::time_point now) {
  if (stage_ == Stage::kEmpty || stage_ == Stage::kRuns) return false;
  if (stage_ == Stage::kKilled) {
    survivors_ = descendants(getpid());
    if ((survivors_.empty() && head_reaped_) || now >= deadline_) return finish();
    kill_all();  // what was being started while the others were killed
    return false;
  }
  if (stage_ == Stage::kLeft) {
    for (const ProcessId& process : descendants(getpid())) send_signal(process, SIGTERM);
    stage_ = Stage::kLeftover;
  }
  if (stage_ == Stage::kLeftover && descendants(getpid()).empty()) return finish();
  if (now < deadline_) return false;
  kill_all();
  stage_ = Stage::kKilled;
  deadline_ = after(now, kLongestDeath);
  return false;
}

std::optional<ProcessTree::Clock::time_point> ProcessTree::next_step() const {
  if (stage_ == Stage::kEmpty || stage_ == Stage::kRuns) return {};
  if (stage_ == Stage::kAsked) return deadline_;
  return std::min(deadline_, Clock::now() + kLookAtDying);
}

}  // namespace flagscale::launch
