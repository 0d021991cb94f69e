#pragma once
// How a rank's process ended, and what that alone says.

#include <optional>
#include <string>

#include "launch/diagnosis/pattern.h"

namespace flagscale::launch {

struct Ending {
  enum class How {
    kExited,  // code
    kSignal,  // code: the signal's number
    kLost,    // its host does not answer
    kHung,    // it runs and does not get on
  };
  int rank = 0;
  How how = How::kExited;
  int code = 0;
  std::optional<double> time;  // seconds since 1970, one clock for all ranks
  bool by_us = false;          // stopped because another rank had ended, or on request
  int local_rank = -1;         // on its host; -1: not known
};

// A shell's 128 + n, and the negative numbers of Python, as the signals that they are.
Ending exited(int rank, int code, std::optional<double> time = std::nullopt);

// What an ending says; null for success. It lives as long as the program.
const Pattern* find_ending(const Ending& ending);

// "exit code 3", "signal 9 (SIGKILL)", "host lost", "hung".
std::string describe(const Ending& ending);

}  // namespace flagscale::launch
