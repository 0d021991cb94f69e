#include "serve/generation/completion_plan.h"

#include "serve/api_error.h"
#include "serve/generation/prompt.h"

namespace flagscale::serve {

namespace {

constexpr int64_t kDefaultTokens = 16;  // OpenAI's
constexpr size_t kMostAnswers = 4096;   // of all prompts together

void check(const TokenLimits& limits, const CompletionRequest& request, int64_t choices) {
  const char* name = request.best_of ? "best_of" : "n";
  if (request.logprobs.value_or(0) > limits.max_logprobs)
    refuse("logprobs", "logprobs must be at most {}", limits.max_logprobs);
  if (choices > limits.max_n)
    throw ApiError(422, fmt::format("{} is {}, this server allows at most {}", name, choices, limits.max_n),
                   name);
  if (request.prompts.size() * static_cast<size_t>(choices) > kMostAnswers)
    throw ApiError(422,
                   fmt::format("{} prompts of {} choices each are more than {} choices",
                               request.prompts.size(), choices, kMostAnswers),
                   "prompt");
}

engine::Request make_request(const ServedModel& model, const CompletionRequest& request,
                             const PromptInput& prompt, int64_t choices) {
  engine::Request work;
  work.prompt = prompt_ids(model, prompt, request.add_special_tokens);
  truncate(work.prompt, request.truncate_prompt_tokens,
           model.limits.max_model_len - request.max_tokens.value_or(kDefaultTokens));
  CompletionRequest bounded = request;
  if (request.max_tokens == 0) bounded.max_tokens = 1;  // the engine's least; the token is dropped
  work.sampling =
      sampling_params(bounded, model.defaults, model.limits, static_cast<int64_t>(work.prompt.size()),
                      kDefaultTokens, model.loaded.stop_ids);
  if (request.logprobs)
    work.sampling.logprobs = static_cast<int>(*request.logprobs);
  else if (choices > request.n)
    work.sampling.logprobs = 0;  // to tell which are best
  if (request.echo && request.logprobs)
    work.sampling.prompt_logprobs =
        std::max(work.sampling.prompt_logprobs, static_cast<int>(*request.logprobs));
  work.n = static_cast<int>(choices);
  work.priority = static_cast<int>(request.priority);
  work.cache_salt = request.cache_salt;
  work.grammar = request.grammar;
  return work;
}

}  // namespace

GenerationPlan completion_plan(const ServedModel& model, const std::string& name,
                               const CompletionRequest& request) {
  const int64_t choices = request.best_of.value_or(request.n);
  check(model.limits, request, choices);
  GenerationPlan plan;
  for (const PromptInput& prompt : request.prompts) {
    engine::Request work = make_request(model, request, prompt, choices);
    for (int64_t i = 0; i < choices; ++i) {
      OutputOptions options{request.stop,
                            request.include_stop_str_in_output,
                            request.skip_special_tokens,
                            request.logprobs.has_value(),
                            request.max_tokens == 0,
                            request.min_tokens,
                            true};  // as vLLM has it: lm-evaluation-harness counts on max_tokens of them
      plan.choices.push_back(std::make_unique<Choice>(static_cast<int>(plan.choices.size()),
                                                      model.tokenizer(), work.prompt, std::move(options),
                                                      plain_parser()));
    }
    if (request.echo)
      plan.echoes.push_back(prompt.is_ids ? model.tokenizer().decode(work.prompt, request.skip_special_tokens)
                                          : prompt.text);
    plan.requests.push_back(std::move(work));
  }
  if (choices > request.n) plan.keep = static_cast<int>(request.n);
  plan.grammar_field = request.grammar_field;
  plan.stream = request.stream;
  plan.include_usage = request.include_usage;
  plan.continuous_usage = request.continuous_usage;
  const CompletionStyle style{
      request.logprobs.has_value(),
      request.include_usage,
      request.prompt_logprobs.has_value(),
      {static_cast<int>(request.logprobs.value_or(0)), request.return_tokens_as_token_ids},
      static_cast<int>(request.n)};
  const std::string id =
      "cmpl-" + (request.request_id.empty() ? random_id(29) : request.request_id.substr(0, 128));
  plan.format = completion_format(model.tokenizer(), {id, name, unix_seconds()}, style);
  return plan;
}

}  // namespace flagscale::serve
