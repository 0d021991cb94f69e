#include "app/watched.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "launch/launcher/child.h"

namespace flagscale {

Watched::Watched(const launch::Command& command) : err_(memfd_create("stderr", MFD_CLOEXEC)) {
  if (err_ < 0) fail(ErrorKind::kResource, "no file for what a child says: {}", std::strerror(errno));
  const launch::Started started = launch::start_child(command, {.err = err_});
  pid_ = started.pid, out_ = started.out;
  close(started.in);
}

Watched::~Watched() {
  if (pid_ > 0) kill(pid_, SIGKILL), wait();
  close(out_), close(err_);
}

bool Watched::next(std::string& line) {
  while (true) {
    if (const size_t end = pending_.find('\n'); end != std::string::npos) {
      line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return true;
    }
    pollfd ready{out_, POLLIN, 0};
    while (poll(&ready, 1, 100) <= 0) throw_if_interrupted();
    char buffer[4096];
    const ssize_t n = read(out_, buffer, sizeof buffer);
    if (n > 0) pending_.append(buffer, static_cast<size_t>(n));
    if (n < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (n != 0) continue;
    line = std::exchange(pending_, {});
    return !line.empty();
  }
}

int Watched::stop() {
  if (pid_ > 0) kill(pid_, SIGTERM);
  return wait();
}

int Watched::wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string Watched::said() const {
  std::string text(static_cast<size_t>(std::max<off_t>(0, lseek(err_, 0, SEEK_END))), '\0');
  const ssize_t n = pread(err_, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

}  // namespace flagscale
