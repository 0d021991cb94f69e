#include "launch/record/run_state.h"

#include <array>
#include <chrono>

#include "base/error.h"

namespace flagscale::launch {

namespace {
constexpr std::array kRunStates{"starting",  "running", "hung",   "restarting",
                                "completed", "failed",  "stopped"};
}

const char* name(RunState state) { return kRunStates.at(static_cast<size_t>(state)); }

double unix_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

RunState run_state(std::string_view name) {
  for (size_t i = 0; i < kRunStates.size(); ++i)
    if (name == kRunStates[i]) return static_cast<RunState>(i);
  fail(ErrorKind::kCorrupt, "'{}' is no state of a run", name);
}

}  // namespace flagscale::launch
