#pragma once
// Two processes above an agent that only wait: the agent's parent, its keeper, and the keeper's, the watch.
// Each is a subreaper, so what is left of a tree falls to it, sessions and all. Of the launcher and these
// three any three may be killed at once: who is left ends the tree. The watch has a name and words of its
// own, as processes that are killed together mostly are by their names.

#include <string>

#include "launch/agent/process.h"

namespace flagscale::launch {

// Has an agent serve on these files, which are closed here. The calling process has one thread and becomes
// the watch, in a session of its own; returns what the agent did, 128 + signal where one of them was killed.
int run_below_keepers(int in, int out, int (*serve)(int in, int out) noexcept);

// What the control groups of an agent's trees are called, by its keeper: no other's, now or earlier.
std::string group_names(const ProcessId& keeper);

}  // namespace flagscale::launch
