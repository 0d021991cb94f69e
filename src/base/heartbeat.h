#pragma once
// Signs of life for whoever started this process: what it is doing, each time it has got on. They go where
// FLAGSCALE_HEARTBEATS says, and nowhere without it.
//
// The protocol, for any language: FLAGSCALE_HEARTBEATS is a folder; a process keeps one line in the file
// rank_<RANK, or 0> there, always written at its beginning:
//   <phase> <iteration> <pid> <beats so far> <a signal that makes it print its stacks, or 0>[
//   <name>=<number>]…\n
// Whoever watches allows each phase its own time between two beats. The names are what the process measures
// of its work, as of that iteration; they go into the run's record.

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

namespace flagscale {

enum class Phase { kStart, kLoad, kFirstStep, kStep, kEvaluation, kSave };
inline constexpr std::string_view kPhases[] = {"start", "load", "first_step", "step", "evaluation", "save"};

void beat(Phase phase, int64_t iteration = 0);

struct Metric {
  std::string_view name;  // without blanks and '='
  double value = 0;
};
// Goes along with every beat from the next one on, until it is called again.
void report_metrics(std::span<const Metric> metrics);

// Each beat's line to this process itself as well, on the thread that beats; null: no more.
void hear_own_beats(std::function<void(std::string_view line)> hear);

// A signal (the line names it) makes each thread that gets it print its stack on stderr and go on.
void install_stack_signal();

}  // namespace flagscale
