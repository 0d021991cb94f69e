#pragma once
// An agent owns the processes of one rank on its host: it starts the command (spawn.h), writes its output to
// the rank's file and to the launcher, says at once when it has ended, and ends all that it started, and
// nothing else. It is a subreaper in a session of its own, so that whatever its tree does to get away is
// still below it; where it may, the tree has a control group too. Above it two processes only wait, so that
// the tree is ended whichever of them is killed (keepers.h).
//
// It follows a launcher's orders and outlives it by a moment only: once nobody writes to `in`, or is heard
// for StartOrder's lost_after, the tree is ended (SIGTERM, after kOrphanGrace SIGKILL) and the agent with it.

namespace flagscale::launch {

inline constexpr double kOrphanGrace = 5;    // s
inline constexpr double kLeftoverGrace = 5;  // s, for what a command leaves running when it ends
inline constexpr double kTickEvery = 2;      // s between signs of life of both sides

// Serves one launcher, until it goes; returns an exit code, 128 + signal where the agent was killed. The
// calling process has one thread and becomes the watch above it: session, signals and subreaper are changed,
// the two files closed.
int run_agent(int in, int out);

}  // namespace flagscale::launch
