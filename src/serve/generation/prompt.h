#pragma once
// From a request's text to the model's tokens.

#include <string>
#include <vector>

#include "serve/request/chat_request.h"
#include "serve/request/completion_request.h"
#include "serve/served_model.h"

namespace flagscale::serve {

struct ChatPrompt {
  std::vector<int32_t> ids;
  bool inside_reasoning = false;  // it ends with <think>: the output goes on there
};

// Throws ApiError 400: what the template refuses, in its own words; context_length_exceeded for text that is
// far too long.
ChatPrompt chat_prompt(const ServedModel& model, const ChatRequest& request);

// field: what a refusal names.
std::vector<int32_t> prompt_ids(const ServedModel& model, const PromptInput& prompt, bool add_special,
                                const char* field = "prompt");

// The last `keep` of them; the last `room` where keep is -1.
void truncate(std::vector<int32_t>& ids, const std::optional<int64_t>& keep, int64_t room);

}  // namespace flagscale::serve
