#pragma once
// Counters and gauges of an engine: what vLLM's metrics are made of.

#include <array>
#include <cstdint>

namespace flagscale::engine {

struct Stats {
  // Gauges.
  int64_t running = 0;  // choices that compute
  int64_t waiting = 0;  // choices that wait, preempted ones too
  double kv_usage = 0;  // share of the cache's pages that running choices hold

  // Counters.
  int64_t prefix_queries = 0, prefix_hits = 0;  // prompt tokens looked up in the prefix cache, and found
  int64_t preemptions = 0;
  int64_t prompt_tokens = 0, generation_tokens = 0;
  std::array<int64_t, 5> finished{};                          // choices, by FinishReason
  int64_t drafts = 0, draft_tokens = 0, accepted_tokens = 0;  // speculation
  std::array<int64_t, 16> accepted_at{};                      // accepted_tokens by place in their draft

  // Tokens of each step: bucket i counts steps of at most 2^i tokens and more than 2^(i-1); the last one the
  // rest.
  std::array<int64_t, 16> step_tokens{};
  int64_t steps = 0, step_tokens_sum = 0;
  int64_t steps_planned_ahead = 0;   // while the step before them computed
  int64_t steps_launched_ahead = 0;  // of these, behind it on a GPU
  double busy_seconds = 0;           // in steps
  double model_seconds = 0;          // of these, in the model
  double plan_seconds = 0;           // of these, planning while nothing computes
};

}  // namespace flagscale::engine
