#include "launch/agent/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sstream>
#include <unordered_map>

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

struct ProcessStat {
  char state = 0;
  int parent = 0;
  uint64_t start = 0;
};

// A process may go while its file is read, which a stream's buffer throws for: then what there was of it.
std::string whole_file(const fs::path& file) {
  std::string text;
  char buffer[4096];
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  close(fd);
  return text;
}

// The name in the second field may hold spaces and brackets: what follows the last bracket counts.
std::optional<ProcessStat> stat_of(int pid) {
  const std::string text = whole_file(fmt::format("/proc/{}/stat", pid));
  const size_t end = text.rfind(')');
  if (end == std::string::npos) return {};
  std::istringstream fields(text.substr(end + 1));
  ProcessStat stat;
  fields >> stat.state >> stat.parent;
  std::string passed;
  for (int field = 5; field < 22; ++field) fields >> passed;
  fields >> stat.start;
  return fields ? std::optional(stat) : std::nullopt;
}

bool is_dead(const ProcessStat& stat) { return stat.state == 'Z' || stat.state == 'X'; }

std::unordered_map<int, ProcessStat> all_processes() {
  std::unordered_map<int, ProcessStat> all;
  std::error_code gone;
  for (fs::directory_iterator at("/proc", gone), end; !gone && at != end; at.increment(gone)) {
    const std::string name = at->path().filename();
    int pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc()) continue;
    if (const auto stat = stat_of(pid)) all[pid] = *stat;
  }
  return all;
}

}  // namespace

ProcessId process_id(int pid) {
  const auto stat = stat_of(pid);
  return {pid, stat ? stat->start : 0};
}

bool runs(const ProcessId& process) {
  if (process.pid <= 0 || process.start == 0) return false;
  const auto stat = stat_of(process.pid);
  return stat && stat->start == process.start && !is_dead(*stat);
}

bool send_signal(const ProcessId& process, int signal) {
  if (process.pid <= 0 || process.start == 0) return false;
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0));
  if (fd < 0) return false;
  // The descriptor is of whoever has the number now: only then is the start looked at.
  const bool sent =
      process_id(process.pid) == process && syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0) == 0;
  close(fd);
  return sent;
}

std::vector<ProcessId> descendants(int pid) {
  const auto all = all_processes();
  std::unordered_map<int, std::vector<int>> children;
  for (const auto& [number, stat] : all) children[stat.parent].push_back(number);
  std::vector<ProcessId> found;
  std::vector<int> waiting{pid};
  for (size_t i = 0; i < waiting.size(); ++i)
    for (const int child : children[waiting[i]]) {
      waiting.push_back(child);
      if (!is_dead(all.at(child))) found.push_back({child, all.at(child).start});
    }
  return found;
}

std::string command_line(int pid) {
  std::string text = whole_file(fmt::format("/proc/{}/cmdline", pid));
  while (!text.empty() && text.back() == '\0') text.pop_back();
  std::replace(text.begin(), text.end(), '\0', ' ');
  if (!text.empty()) return text;
  std::string name = whole_file(fmt::format("/proc/{}/comm", pid));
  if (!name.empty()) name.pop_back();
  return "[" + name + "]";
}

std::string boot_id() {
  std::string id = whole_file("/proc/sys/kernel/random/boot_id");
  if (!id.empty()) id.pop_back();
  return id;
}

std::string machine_name() {
  char name[HOST_NAME_MAX + 1] = {};
  gethostname(name, HOST_NAME_MAX);
  return name;
}

ExitStatus exit_status(int wait_status) {
  if (WIFSIGNALED(wait_status)) return {128 + WTERMSIG(wait_status), WTERMSIG(wait_status)};
  return {WEXITSTATUS(wait_status), 0};
}

std::string describe(const ExitStatus& status) {
  if (status.signal == 0) return fmt::format("exited with code {}", status.code);
  const char* name = sigabbrev_np(status.signal);
  return fmt::format("was killed by signal {}{}", status.signal, name ? fmt::format(" (SIG{})", name) : "");
}

}  // namespace flagscale::launch
