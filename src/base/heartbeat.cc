#include "base/heartbeat.h"

#include <execinfo.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>

namespace flagscale {

namespace {

std::atomic<int> stack_signal{0};
std::mutex metrics_mutex, hearer_mutex;  // ranks may be threads
std::string metrics_text;
std::function<void(std::string_view line)> hearer;
std::atomic<bool> heard{false};

int open_heartbeat_file() {
  const char* folder = std::getenv("FLAGSCALE_HEARTBEATS");
  if (folder == nullptr || *folder == '\0') return -1;
  const char* rank = std::getenv("RANK");
  const std::string path = std::string(folder) + "/rank_" + (rank != nullptr && *rank != '\0' ? rank : "0");
  return open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
}

int heartbeat_file() {
  static const int file = open_heartbeat_file();
  return file;
}

bool anyone_wants_them() { return heard || heartbeat_file() >= 0; }

std::string metrics_now() {
  const std::lock_guard lock(metrics_mutex);
  return metrics_text;
}

// Only calls that are safe in a handler: backtrace() was loaded before.
void print_stack(int) {
  const int before = errno;
  void* frames[64];
  const int depth = backtrace(frames, 64);
  char line[64];
  const int length =
      std::snprintf(line, sizeof line, "flagscale: stack of thread %ld\n", syscall(SYS_gettid));
  if (length > 0) [[maybe_unused]]
    const ssize_t written = write(STDERR_FILENO, line, static_cast<size_t>(length));
  backtrace_symbols_fd(frames, depth, STDERR_FILENO);
  errno = before;
}

}  // namespace

void beat(Phase phase, int64_t iteration) {
  static std::atomic<int64_t> beats = 0;
  if (!anyone_wants_them()) return;
  const std::string line = fmt::format("{} {} {} {} {}{}\n", kPhases[static_cast<size_t>(phase)], iteration,
                                       getpid(), ++beats, stack_signal.load(), metrics_now());
  // A beat that cannot be written is one that is not seen; the work itself goes on.
  if (heartbeat_file() >= 0) [[maybe_unused]]
    const ssize_t written = pwrite(heartbeat_file(), line.data(), line.size(), 0);
  if (!heard) return;
  const std::lock_guard lock(hearer_mutex);
  if (hearer) hearer(line);
}

void hear_own_beats(std::function<void(std::string_view line)> hear) {
  const std::lock_guard lock(hearer_mutex);
  hearer = std::move(hear);
  heard = hearer != nullptr;
}

void report_metrics(std::span<const Metric> metrics) {
  if (!anyone_wants_them()) return;
  std::string text;
  for (const Metric& metric : metrics) text += fmt::format(" {}={:.9g}", metric.name, metric.value);
  const std::lock_guard lock(metrics_mutex);
  metrics_text = std::move(text);
}

void install_stack_signal() {
  void* frame[1];
  backtrace(frame, 1);  // loads what it needs, which a handler must not
  struct sigaction action{};
  action.sa_handler = print_stack;
  action.sa_flags = SA_RESTART;
  const int number = SIGRTMIN + 10;  // 44: neither ours nor any library's so far
  if (sigaction(number, &action, nullptr) == 0) stack_signal = number;
}

}  // namespace flagscale
