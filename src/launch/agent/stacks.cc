#include "launch/agent/stacks.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

std::string one_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::vector<int> threads_of(int pid) {
  std::vector<int> threads;
  std::error_code gone;
  fs::directory_iterator at(fmt::format("/proc/{}/task", pid), gone);
  for (const fs::directory_iterator end; !gone && at != end; at.increment(gone)) {
    const std::string name = at->path().filename();
    int thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    threads.push_back(thread);
  }
  std::sort(threads.begin(), threads.end());
  return threads;
}

// "S (sleeping)" of the status file.
std::string state_of(const fs::path& task) {
  std::ifstream in(task / "status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("State:")) return line.substr(line.find_first_not_of("\t ", 6));
  return "gone";
}

// The kernel hides stack and wchan from some users, and wchan is "0" for a thread that runs.
std::string thread_line(int pid, int thread) {
  const fs::path task = fmt::format("/proc/{}/task/{}", pid, thread);
  std::string text = fmt::format("  thread {} ({}): {}", thread, one_line(task / "comm"), state_of(task));
  const std::string waits_in = one_line(task / "wchan"), call = one_line(task / "syscall");
  if (!waits_in.empty() && waits_in != "0") text += ", waits in " + waits_in;
  if (!call.empty() && call != "running") text += ", system call " + call.substr(0, call.find(' '));
  text += '\n';
  std::ifstream stack(task / "stack");
  for (std::string line; std::getline(stack, line);) text += "    " + line + '\n';
  return text;
}

}  // namespace

std::string kernel_stacks(const std::vector<ProcessId>& processes) {
  std::string text;
  for (const ProcessId& process : processes) {
    text += fmt::format("process {}: {}\n", process.pid, command_line(process.pid));
    for (const int thread : threads_of(process.pid)) text += thread_line(process.pid, thread);
  }
  return text;
}

void ask_for_stacks(int pid, int signal) {
  for (const int thread : threads_of(pid)) syscall(SYS_tgkill, pid, thread, signal);
}

}  // namespace flagscale::launch
