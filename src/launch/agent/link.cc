#include "launch/agent/link.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "launch/agent/agent.h"

namespace flagscale::launch {

namespace {

void close_all_but(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned first = STDERR_FILENO + 1;
  for (const int fd : kept) {
    if (fd < static_cast<int>(first)) continue;
    if (static_cast<unsigned>(fd) > first) close_range(first, static_cast<unsigned>(fd) - 1, 0);
    first = static_cast<unsigned>(fd) + 1;
  }
  close_range(first, ~0U, 0);
}

// A copy of the launcher: nothing may unwind into what the launcher was doing.
[[noreturn]] void be_agent(int in, int out, int keep) noexcept {
  close_all_but({in, out, keep});
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, standard);
  _exit(run_agent(in, out));
}

}  // namespace

AgentLink open_local_link(int keep) {
  int orders[2], reports[2];
  if (pipe2(orders, O_CLOEXEC) != 0 || pipe2(reports, O_CLOEXEC) != 0)
    fail(ErrorKind::kResource, "cannot make a pipe to an agent: {}", std::strerror(errno));
  const int pid = fork();
  if (pid < 0) fail(ErrorKind::kResource, "cannot start an agent: {}", std::strerror(errno));
  if (pid == 0) be_agent(orders[0], reports[1], keep);
  close(orders[0]);
  close(reports[1]);
  return {pid, orders[1], reports[0], true};
}

}  // namespace flagscale::launch
