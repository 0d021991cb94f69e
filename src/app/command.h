#pragma once
// A command of `flagscale`: one file src/app/<name>_command.cc each, that registers itself:
//
//   static const Registration<Command> kScore{"score", {"log-probabilities of a text under a model",
//   &setup}};
//
// setup(app) adds options, nested commands (`config show`) and a callback to the command's own CLI::App, and
// a footer that starts with "Examples:". The callback does the work; it throws Error (base/error.h), which
// main() prints as `flagscale: error: ...` and turns into the exit code. Results go to stdout, everything
// else to stderr, so that
// `--json` output can be piped.

#include "base/registry.h"

namespace CLI {
class App;
}

namespace flagscale {

struct Command {
  const char* summary;  // one line, no capital, no full stop
  void (*setup)(CLI::App& app);
};

// Thrown by a callback that has said all there is to say: the program ends with this code, a job's own.
struct ExitCode {
  int code;
};

}  // namespace flagscale
