#include "base/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "base/error.h"
#include "base/interrupt_notice.h"

namespace flagscale {

namespace {
volatile std::sig_atomic_t stop_requested = 0;
std::atomic<const std::string*> notice{nullptr};

void on_signal(int signal) {
  const int before = errno;
  const bool again = stop_requested != 0;
  if (again && signal != SIGHUP) _exit(128 + signal);
  stop_requested = 1;
  if (const std::string* text = notice; text != nullptr && !again) [[maybe_unused]]
    const ssize_t written = write(STDERR_FILENO, text->data(), text->size());
  errno = before;
}
}  // namespace

void install_interrupt_handler() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction hangup{};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

InterruptNotice::InterruptNotice(const std::string& line) : text_('\n' + line + '\n') { notice = &text_; }
InterruptNotice::~InterruptNotice() { notice = nullptr; }

bool interrupted() { return stop_requested != 0; }

void throw_if_interrupted() {
  if (interrupted()) throw Error(ErrorKind::kInterrupted, "interrupted");
}

}  // namespace flagscale
