#pragma once
// The events of a request gathered into one result, for callers that wait for the whole.

#include "engine/event.h"

namespace flagscale::engine {

struct Answer {
  std::vector<OutputToken> tokens;
  std::vector<OutputToken> prompt;  // log-probabilities of the prompt's tokens after the first
  std::vector<float> embedding;
  FinishReason finish = FinishReason::kNone;
  int64_t cached_tokens = 0;
  std::string error;

  std::vector<int32_t> ids() const;
};

// Adds an event's content.
void gather(Answer& answer, Event event);

// A sink that fills answers[choice]; the vector must outlive the request and have room for all its choices.
Sink gather_into(std::vector<Answer>& answers);
Sink gather_into(Answer& answer);  // of one choice

}  // namespace flagscale::engine
