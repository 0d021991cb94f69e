#include "engine/check_request.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

namespace {

template <class T>
void check_range(const char* name, T value, T low, T high) {
  if (!(value >= low && value <= high))
    fail(ErrorKind::kInvalidArgument, "{} is {}, expected {} to {}", name, value, low, high);
}

void check_ids(const char* name, const std::vector<int32_t>& ids, int64_t vocab) {
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab)
      fail(ErrorKind::kInvalidArgument, "{}: token id {} is not in the vocabulary of {}", name, id, vocab);
}

void check_sampling(const SamplingParams& p, int64_t vocab) {
  constexpr float kMost = 1e6f;
  const auto words = static_cast<int>(vocab);
  check_range("temperature", p.temperature, 0.f, kMost);
  check_range("top_k", p.top_k, 0, INT32_MAX);
  check_range("top_p", p.top_p, 1e-9f, 1.f);
  check_range("min_p", p.min_p, 0.f, 1.f);
  check_range("presence_penalty", p.presence_penalty, -kMost, kMost);
  check_range("frequency_penalty", p.frequency_penalty, -kMost, kMost);
  check_range("repetition_penalty", p.repetition_penalty, 1e-6f, kMost);
  check_range("max_tokens", p.max_tokens, 0, INT32_MAX);
  check_range("min_tokens", p.min_tokens, 0, std::max(p.max_tokens, 0));
  check_range("logprobs", p.logprobs, -1, words);
  check_range("prompt_logprobs", p.prompt_logprobs, -1, words);
  check_ids("allowed_token_ids", p.allowed_ids, vocab);
  check_ids("stop_token_ids", p.stop_ids, vocab);
  for (const auto& [id, bias] : p.logit_bias) {
    check_ids("logit_bias", {id}, vocab);
    check_range("logit_bias", bias, -kMost, kMost);
  }
}

}  // namespace

void check_request(const Request& request, const Runner& runner) {
  const int64_t vocab = runner.config().vocab_size, limit = runner.options().max_length;
  const auto length = static_cast<int64_t>(request.prompt.size());
  const int64_t wanted = request.embed ? 0 : request.sampling.max_tokens;
  if (request.prompt.empty())
    fail(ErrorKind::kInvalidArgument, "the prompt is empty: give at least one token");
  check_ids("prompt", request.prompt, vocab);
  check_range("n", request.n, 1, kMaxChoices);
  check_sampling(request.sampling, vocab);
  if (length + (wanted > 0 ? 1 : 0) > limit)
    fail(ErrorKind::kInvalidArgument,
         "the prompt has {} tokens, the longest sequence here is {}; shorten it, or raise --max-model-len as "
         "far as the "
         "model's max_position_embeddings allows",
         length, limit);
  const int64_t longest = std::min(limit, length + wanted), room = runner.pages() * op::kPageTokens;
  if (longest > room)
    fail(ErrorKind::kInvalidArgument,
         "prompt and output of {} tokens do not fit the cache of {}; ask for fewer max_tokens", longest,
         room);
}

}  // namespace flagscale::engine
