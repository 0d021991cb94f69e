#pragma once
// What chat and plain completions both take: OpenAI's sampling fields and vLLM's further ones.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "serve/api_error.h"
#include "serve/fields.h"

namespace flagscale::serve {

struct SamplingRequest {
  std::string model;
  std::optional<int64_t> max_tokens, seed, top_k, prompt_logprobs, truncate_prompt_tokens;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  double presence_penalty = 0, frequency_penalty = 0;
  int64_t n = 1, min_tokens = 0, priority = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids, allowed_token_ids;
  std::vector<std::pair<int32_t, float>> logit_bias;
  bool include_stop_str_in_output = false, ignore_eos = false, skip_special_tokens = true;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool return_tokens_as_token_ids = false;
  std::string cache_salt, request_id;
  engine::Grammar grammar;
  std::string grammar_field;  // that gave it
};

// Registers them all. Target derives from SamplingRequest.
template <class Target>
void add_sampling_fields(Fields<Target>& fields);
extern template void add_sampling_fields(Fields<struct ChatRequest>&);
extern template void add_sampling_fields(Fields<struct CompletionRequest>&);

// truncate_prompt_tokens, of any request that has it.
template <class Target>
void add_truncation_field(Fields<Target>& fields) {
  fields.add("truncate_prompt_tokens", R"({"type":["integer","null"],"minimum":-1})",
             "keep so many of the prompt's last tokens; -1: as many as fit",
             [](Target& target, const std::string& name, const Json& value) {
               target.truncate_prompt_tokens = read_integer(name, value, {.least = -1});
               if (*target.truncate_prompt_tokens == 0)
                 throw ApiError(400, name + " must be at least 1, or -1, got 0", name);
             });
}

// Defaults that the model's generation_config.json gives, as vLLM takes them.
struct GenerationDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
};
GenerationDefaults read_generation_defaults(const std::string& model_path);

// As vLLM has it: no chunk has a place for them.
[[noreturn]] void refuse_streamed_prompt_logprobs();

struct TokenLimits {
  int64_t max_model_len = 0, vocab_size = 0, max_n = 128;
  int max_logprobs = 20;
};

// For a prompt of `prompt` tokens. default_max: max_tokens where none is given; it and what is given must fit
// the model's length. Throws ApiError: 400 naming the field (context_length_exceeded), 422 past the server's
// limits.
engine::SamplingParams sampling_params(const SamplingRequest& request, const GenerationDefaults& defaults,
                                       const TokenLimits& limits, int64_t prompt, int64_t default_max,
                                       const std::vector<int32_t>& end_ids);

}  // namespace flagscale::serve
