#pragma once
// What the engine tells a request's caller.

#include <functional>

#include "engine/request.h"

namespace flagscale::engine {

// What one step did for one choice of one request.
struct Event {
  int choice = 0;
  std::vector<OutputToken>
      tokens;  // in order; several with speculation; a stop id that ended it is the last one
  FinishReason finish = FinishReason::kNone;  // kNone: goes on
  int32_t stop_id = -1;                       // the stop id that ended it
  int64_t cached_tokens = 0;        // of the prompt, found in the prefix cache (first event of choice 0)
  double queue_seconds = 0;         // from its arrival to its first step (first event)
  double prefill_seconds = 0;       // from there to this event (first event)
  std::vector<OutputToken> prompt;  // prompt log-probabilities (first event of choice 0)
  std::vector<float> embedding;     // Request::embed
  std::string error;                // kError
  bool refused = false;             // kError: by the request's own doing, such as a grammar of too much work
};

// Called on the engine's thread or, while that computes, on one beside it: it must neither block nor throw.
// The last event of each choice has finish != kNone.
using Sink = std::function<void(Event)>;

}  // namespace flagscale::engine
