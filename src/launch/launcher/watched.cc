#include "launch/launcher/watched.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "launch/launcher/child.h"

namespace flagscale::launch {

Watched::Watched(const Command& command) : err_(memfd_create("stderr", MFD_CLOEXEC)) {
  if (err_ < 0) fail(ErrorKind::kResource, "no file for what a child says: {}", std::strerror(errno));
  const Started started = start_child(command, {.err = err_});
  pid_ = started.pid, out_ = started.out;
  close(started.in);
}

Watched::~Watched() {
  if (pid_ > 0) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  close(out_), close(err_);
}

bool Watched::next(std::string& line) {
  while (true) {
    if (const size_t end = pending_.find('\n'); end != std::string::npos) {
      line = last_ = pending_.substr(0, end);
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
    if (!line.empty()) last_ = line;
    return !line.empty();
  }
}

int Watched::stop() {
  if (pid_ > 0) kill(pid_, SIGTERM);
  return wait();
}

int Watched::wait(std::chrono::duration<double> limit) {
  const auto start = std::chrono::steady_clock::now();
  int status = 0;
  for (int pid = 0; (pid = waitpid(pid_, &status, WNOHANG)) != pid_;) {
    if (pid < 0 && errno != EINTR) break;
    throw_if_interrupted();
    if (std::chrono::steady_clock::now() - start > limit)
      fail(ErrorKind::kResource, "it had not ended {:g} s after it should have; the last that it said: {}",
           limit.count(), last_said());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string Watched::last_said() const {
  std::string text = said();
  while (text.ends_with('\n')) text.pop_back();
  text.erase(0, text.find_last_of('\n') + 1);
  return !text.empty() ? text : !last_.empty() ? last_ : "nothing";
}

std::string Watched::said() const {
  std::string text(static_cast<size_t>(std::max<off_t>(0, lseek(err_, 0, SEEK_END))), '\0');
  const ssize_t n = pread(err_, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

}  // namespace flagscale::launch
