#pragma once
// What an engine gives when it serves many requests at once, without HTTP and without text: steps as a server
// has them, with their scheduling, their drawing and their callers told.

#include <cstdint>
#include <functional>
#include <string>

#include "engine/engine.h"

namespace flagscale::engine {

struct ThroughputOptions {
  int64_t prompts = 1000, input_tokens = 1024, output_tokens = 128;
  int64_t concurrency = 0;  // requests under way at once: the next begins when one ends; 0: any number
  float temperature = 1;
  uint64_t seed = 0;    // of the prompts' ids; request i draws with seed + i
  std::string adapter;  // LoRA name that all use; empty: the base model
};

struct Throughput {
  struct Steps {
    int64_t count = 0, tokens = 0;  // that were computed, prompts' too
    double seconds = 0;             // from the end of the step before to its own
  };
  int64_t finished = 0;                        // requests
  int64_t prompt_tokens = 0;                   // of requests that began
  int64_t output_tokens = 0;                   // drawn
  double seconds = 0;                          // of the whole
  Steps prefill, decode;                       // with a part of a prompt, and of single tokens alone
  int64_t launched_ahead = 0;                  // of the steps, on a GPU before the one before had ended
  double model_seconds = 0, plan_seconds = 0;  // as Stats has them
  double idle_seconds = 0;  // the model waits for the host between two steps: from the end of one to the call
                            // that starts the next, where that is not launched yet
  int64_t preemptions = 0;
  bool interrupted = false;
};

// Random ids, every prompt its own; each answer has its full length. tick gets what there is after each step
// and ends the run with false. Throws Error where a request cannot run or fails.
Throughput measure_throughput(Engine& engine, const ThroughputOptions& options,
                              const std::function<bool(const Throughput&)>& tick);

}  // namespace flagscale::engine
