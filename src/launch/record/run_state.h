#pragma once
// How a run stands.

#include <string>
#include <string_view>

namespace flagscale::launch {

enum class RunState {
  kStarting,
  kRunning,
  kHung,        // a rank has not got on for longer than its phase may take
  kRestarting,  // a rank failed: the others are ended, then all start again
  kCompleted,
  kFailed,
  kStopped,  // by the user
};
const char* name(RunState state);           // "starting", …
RunState run_state(std::string_view name);  // Throws Error{kCorrupt}
double unix_now();                          // as records have it: seconds since 1970
inline bool is_over(RunState state) { return state >= RunState::kCompleted; }

}  // namespace flagscale::launch
