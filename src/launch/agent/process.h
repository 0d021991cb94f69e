#pragma once
// Processes of this machine, named so that a number that is used again is never taken for the one meant.

#include <cstdint>
#include <string>
#include <vector>

namespace flagscale::launch {

struct ProcessId {
  int pid = 0;
  uint64_t start = 0;  // clock ticks after the machine's start; 0: there is no such process
  bool operator==(const ProcessId&) const = default;
};

ProcessId process_id(int pid);
bool runs(const ProcessId& process);  // a zombie does not

// Through a pidfd, so that it reaches this process or none. False when it is gone or may not be signalled.
bool send_signal(const ProcessId& process, int signal);

// All that run below a process, parents before children; zombies are left out, what is below them is not.
std::vector<ProcessId> descendants(int pid);

std::string command_line(int pid);  // as typed, words apart by spaces; "[name]" where there is none
std::string boot_id();              // another one after every start of the machine
std::string machine_name();         // as gethostname() has it

// How a process ended, as a shell counts: the exit code, or 128 + the signal that killed it.
struct ExitStatus {
  int code = 0;
  int signal = 0;  // 0: it exited by itself
  bool operator==(const ExitStatus&) const = default;
};
ExitStatus exit_status(int wait_status);
std::string describe(const ExitStatus& status);  // "exited with code 1", "was killed by signal 9 (SIGKILL)"

}  // namespace flagscale::launch
