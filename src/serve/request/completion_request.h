#pragma once
// The body of /v1/completions.

#include "serve/request/sampling_request.h"

namespace flagscale::serve {

// Texts, or token ids.
struct PromptInput {
  std::string text;
  std::vector<int32_t> ids;
  bool is_ids = false;
};

struct CompletionRequest : SamplingRequest {
  std::vector<PromptInput> prompts;
  bool echo = false, add_special_tokens = true;
  std::optional<int64_t> logprobs, best_of;
};

const Fields<CompletionRequest>& completion_fields();
CompletionRequest read_completion_request(const Json& body);

// A string, a list of strings, of ids, or of lists of ids.
std::vector<PromptInput> read_prompts(const std::string& name, const Json& value);
extern const char* const kPromptSchema;

}  // namespace flagscale::serve
