#pragma once
// Starts a command by exec, as the head of a process tree of its own session.

#include <string>

#include "launch/agent/cgroup.h"
#include "launch/job.h"

namespace flagscale::launch {

struct Spawned {
  int pid = 0;
  int out = -1, err = -1;  // ends of pipes to read, not blocking; err is -1 where both go to out
};

struct SpawnOptions {
  std::string before_start;  // the user's shell text: runs first, in the shell that then becomes the command
  bool apart = false;        // stderr has a pipe of its own
  Cgroup cgroup = {};
};

// The command dies with the calling process, by SIGKILL. Throws Error{kNotFound, kResource} naming what could
// not be started, and why.
Spawned spawn(const Command& command, const SpawnOptions& options);

}  // namespace flagscale::launch
