#pragma once
// Where the processes of a tree stand: what the kernel says of each thread, and for those that print their
// stacks when asked (base/heartbeat.h) the request to do so.

#include <string>
#include <vector>

#include "launch/agent/process.h"

namespace flagscale::launch {

// Of each process: its command line and of each thread the name, the state, what it waits for in the kernel
// and, where this user may read it, the kernel's stack.
std::string kernel_stacks(const std::vector<ProcessId>& processes);

// Asks every thread of a process for its stack on stderr.
void ask_for_stacks(int pid, int signal);

}  // namespace flagscale::launch
