#pragma once
// Tokens a second of a model's steps, with the share of the floor that binds each: reading the weights and
// the cache once a step, or multiplying.

#include <optional>
#include <vector>

#include "engine/runner.h"

namespace flagscale::engine {

struct StepBenchOptions {
  int64_t prompt = 512;  // tokens of the prefill
  int64_t depth = 16;    // tokens in the cache before decoding
  int64_t steps = 32;    // of each decode measurement
  int repeats = 3;
  int32_t adapter = -1;  // slot of a LoRA adapter that all tokens use; -1: none
  std::vector<int> streams{1, 8, 32};
};

struct StepRate {
  int64_t streams = 0;         // 0: prefill
  double tokens_per_s = 0;     // median of the repeats
  double bytes = 0;            // read by a step at least: weights once, each stream's cache
  double flops = 0;            // of a step
  double seconds = 0;          // of a step, median
  std::optional<double> idle;  // of them a GPU waits, between steps; none: not known
};

struct StepBenchResult {
  StepRate prefill;
  std::vector<StepRate> decode;
  double read_bandwidth = 0;  // bytes/s of reading this model's weights and doing nothing else; of a GPU: of
                              // copying its memory, reads and writes
  size_t weight_bytes = 0, peak_bytes = 0, resident_bytes = 0;
};

// options of a runner that holds what the bench needs.
RunnerOptions with_room(RunnerOptions options, const StepBenchOptions& bench);

// Random ids; the runner's pages are used as if they were all free.
StepBenchResult bench_steps(Runner& runner, const StepBenchOptions& options);

}  // namespace flagscale::engine
