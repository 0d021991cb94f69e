#include "launch/agent/keepers.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "launch/agent/cgroup.h"

namespace flagscale::launch {

namespace {

constexpr int kAnyParent = 0;
constexpr const char* kWatch = "job-watch";

// SIGTERM: the parent has gone. Blocked from before a child is there, so none is missed.
sigset_t news() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGCHLD, SIGTERM}) sigaddset(&set, number);
  return set;
}

// Returns once the child that is watched has ended, or the parent; by then nothing is left below: there was
// nothing, unless one of them was killed.
int keep_watch(int watched, int parent, const std::string& groups) noexcept {
  const sigset_t set = news();
  const auto alone = [&] { return parent != kAnyParent && getppid() != parent; };
  int status = 0, number = 0;
  while (!alone() && waitpid(watched, &status, WNOHANG) == 0) sigwait(&set, &number);
  for (auto left = descendants(getpid()); !left.empty(); left = descendants(getpid())) {
    for (const ProcessId& process : left) send_signal(process, SIGKILL);
    while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  Cgroup::remove_all(groups);
  return exit_status(status).code;
}

// As fork(), of a child that hears of its parent's death by SIGTERM.
int fork_below(const char* name) {
  const int parent = getpid(), child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_NAME, name);
  return 0;
}

// Until now its command line is the launcher's.
void take_words(const char* words) noexcept {
  std::ifstream in("/proc/self/stat");
  const std::string stat{std::istreambuf_iterator<char>(in), {}};
  const size_t name_ends = stat.rfind(')');
  if (name_ends == std::string::npos) return;
  std::istringstream fields(stat.substr(name_ends + 1));
  std::string passed;
  for (int field = 3; field < 48; ++field) fields >> passed;
  uintptr_t begin = 0, end = 0;
  if (!(fields >> begin >> end) || end <= begin + std::strlen(words)) return;
  std::memset(reinterpret_cast<void*>(begin), 0, end - begin);
  std::memcpy(reinterpret_cast<void*>(begin), words, std::strlen(words));
}

// Above the agent, below the watch.
[[noreturn]] void be_keeper(int in, int out, int watch, int (*serve)(int in, int out) noexcept) noexcept {
  const int keeper = getpid(), agent = fork_below("flagscale-agent");
  if (agent == 0) _exit(serve(in, out));
  if (agent < 0) _exit(1);
  close(in), close(out);
  _exit(keep_watch(agent, watch, group_names(process_id(keeper))));
}

}  // namespace

std::string group_names(const ProcessId& keeper) {
  return fmt::format("flagscale-{}-{}-", keeper.pid, keeper.start);
}

int run_below_keepers(int in, int out, int (*serve)(int in, int out) noexcept) {
  setsid();
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::signal(SIGCHLD, SIG_DFL);  // ignored, it would not be heard
  const sigset_t set = news();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const int watch = getpid(), keeper = fork_below("flagscale-keeper");
  if (keeper == 0) be_keeper(in, out, watch, serve);
  if (keeper < 0) fail(ErrorKind::kResource, "cannot start an agent: {}", std::strerror(errno));
  close(in), close(out);
  prctl(PR_SET_NAME, kWatch);
  take_words(kWatch);
  return keep_watch(keeper, kAnyParent, group_names(process_id(keeper)));
}

}  // namespace flagscale::launch
