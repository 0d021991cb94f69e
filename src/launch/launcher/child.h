#pragma once
// Child processes, each in a session of its own (so that a terminal's Ctrl-C reaches this process alone).

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "launch/job.h"

namespace flagscale::launch {

struct ChildFiles {
  int in = -1, err = -1;  // stdin and stderr; -1: a pipe
};

struct Started {
  pid_t pid = 0;
  int in = -1, out = -1,
      err = -1;  // this process's ends of the pipes, close-on-exec; -1 where a file was given
};

// Starts the command, looking argv[0] up in PATH; its environment is this process's with command.env over it.
// Error{kNotFound} when there is no such program, Error{kResource} when it cannot be started.
Started start_child(const Command& command, const ChildFiles& files = {});

struct Finished {
  int exit_code = 0;  // 128 + signal where a signal ended it
  std::string out, err;
};

// Whether Ctrl-C ends commands too: not those that change what others have, which would be left half done.
enum class OnInterrupt { kWait, kEnd };

// Runs commands side by side to their ends, each with the file `input`, or nothing, on its stdin. `time` ends
// those that still run, by SIGKILL; zero: no limit. Error{kInterrupted} where Ctrl-C has ended them.
std::vector<Finished> run_all(const std::vector<Command>& commands, std::chrono::milliseconds time,
                              const std::filesystem::path& input = {},
                              OnInterrupt on_interrupt = OnInterrupt::kWait);

std::vector<std::string> lines_of(const std::string& text);  // without their newlines

}  // namespace flagscale::launch
