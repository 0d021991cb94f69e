#include "serve/request/completion_request.h"

#include <nlohmann/json.hpp>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {
constexpr size_t kMostPrompts = 1024, kMostPromptIds = 1 << 22;
}

const char* const kPromptSchema =
    R"({"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"},"minItems":1},)"
    R"({"type":"array","items":{"type":"integer","minimum":0},"minItems":1},)"
    R"({"type":"array","items":{"type":"array","items":{"type":"integer","minimum":0},"minItems":1},"minItems":1}]})";

std::vector<PromptInput> read_prompts(const std::string& name, const Json& value) {
  if (value.is_string()) return {{value.get<std::string>(), {}, false}};
  if (!value.is_array() || value.empty())
    refuse(name,
           "{} must be a string, a list of strings, of token ids, or of lists of token ids, and not empty",
           name);
  if (value[0].is_number()) return {{{}, read_ids(name, value, kMostPromptIds), true}};
  if (value.size() > kMostPrompts)
    throw ApiError(
        422, fmt::format("{} has {} items, at most {} are allowed", name, value.size(), kMostPrompts), name);
  std::vector<PromptInput> prompts;
  for (const Json& item : value) {
    if (value[0].is_string())
      prompts.push_back({read_string(name, item), {}, false});
    else
      prompts.push_back({{}, read_ids(name, item, kMostPromptIds), true});
  }
  return prompts;
}

const Fields<CompletionRequest>& completion_fields() {
  static const Fields<CompletionRequest> fields = [] {
    Fields<CompletionRequest> f;
    f.add(
        "prompt", kPromptSchema, "what to continue",
        [](CompletionRequest& r, const std::string& name, const Json& v) {
          r.prompts = read_prompts(name, v);
        },
        true);
    f.integer("max_tokens", &CompletionRequest::max_tokens, {.least = 0, .most = 2147483647},
              "generate at most as many; 16 where none is given");
    f.integer("logprobs", &CompletionRequest::logprobs, {.least = 0},
              "of each token its own log-probability and so many of the likeliest");
    f.integer("best_of", &CompletionRequest::best_of, {.least = 1},
              "generate as many and give the n best by mean log-probability");
    f.flag("echo", &CompletionRequest::echo, "the prompt before the completion");
    f.flag("add_special_tokens", &CompletionRequest::add_special_tokens,
           "what the tokenizer adds around a text");
    f.add("suffix", string_schema(), "not supported",
          [](CompletionRequest&, const std::string& name, const Json& v) {
            if (!read_string(name, v).empty()) refuse(name, "suffix is not supported");
          });
    add_sampling_fields(f);
    return f;
  }();
  return fields;
}

CompletionRequest read_completion_request(const Json& body) {
  CompletionRequest request = completion_fields().read(body);
  if (request.best_of && *request.best_of < request.n) refuse("best_of", "best_of must be at least n");
  if (request.best_of && *request.best_of > request.n && request.stream)
    refuse("best_of", "best_of above n cannot be streamed");
  if (request.prompt_logprobs && request.stream) refuse_streamed_prompt_logprobs();
  if (request.max_tokens && *request.max_tokens == 0 && !request.echo)
    refuse("max_tokens", "max_tokens must be at least 1 without echo");
  return request;
}

}  // namespace flagscale::serve
