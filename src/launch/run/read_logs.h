#pragma once
// The ranks' output files, as they are and as they grow.

#include <cstdio>
#include <optional>

#include "launch/record/run_status.h"

namespace flagscale::launch {

struct LogOptions {
  std::optional<int> rank;  // else all of them
  int lines = -1;           // the last ones of each; -1: all
  bool follow = false;      // until the run is over, or Ctrl-C (Error{kInterrupted})
};

// Several ranks' lines stand behind their numbers. Throws Error{kNotFound} where there is no such rank or
// file.
void print_logs(const RunStatus& run, const LogOptions& options, std::FILE* out);

}  // namespace flagscale::launch
