#include "engine/engine.h"

#include <algorithm>

#include "base/error.h"
#include "engine/sampler.h"
#include "engine/schedule.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

Engine::Engine(std::unique_ptr<Runner> runner) : runner_(std::move(runner)), pool_(runner_->pages()) {}

const Sequence& Engine::add(Request request) {
  const int64_t vocab = runner_->config().vocab_size, limit = runner_->options().max_length;
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (request.prompt.empty()) fail(ErrorKind::kInvalidArgument, "the prompt is empty: give at least one token");
  for (const int32_t id : request.prompt)
    if (id < 0 || id >= vocab) fail(ErrorKind::kInvalidArgument, "token id {} is not in the vocabulary of {}", id, vocab);
  if (length + (request.sampling.max_tokens > 0 ? 1 : 0) > limit)
    fail(ErrorKind::kInvalidArgument, "the prompt has {} tokens, the longest sequence here is {}; shorten it or raise --max-model-len", length, limit);
  Sequence& sequence = sequences_.emplace_back();
  sequence.tokens = request.prompt;
  sequence.request = std::move(request);
  waiting_.push_back(&sequence);
  return sequence;
}

// A sequence starts when the pages of its whole length are there, so that it can always end.
void Engine::admit() {
  const auto& o = runner_->options();
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < o.max_sequences) {
    Sequence& next = *waiting_.front();
    const int64_t longest = std::min<int64_t>(o.max_length, static_cast<int64_t>(next.request.prompt.size()) + next.request.sampling.max_tokens);
    if (!pool_.take(static_cast<int32_t>((longest + op::kPageTokens - 1) / op::kPageTokens), next.pages)) {
      if (running_.empty()) fail(ErrorKind::kResource, "a sequence of {} tokens does not fit the cache of {} pages of 16", longest, runner_->pages());
      return;
    }
    running_.push_back(&next);
    waiting_.pop_front();
  }
}

bool Engine::step() {
  admit();
  if (running_.empty()) return false;
  std::vector<Progress> progress;
  for (const Sequence* s : running_) progress.push_back({static_cast<int64_t>(s->tokens.size()), s->cached});
  const std::vector<Chunk> chunks = plan_step(progress, runner_->options().max_tokens);
  std::vector<StepChunk> step;
  for (const Chunk& chunk : chunks) step.push_back(step_chunk(*running_[static_cast<size_t>(chunk.sequence)], chunk.first, chunk.count));
  runner_->run(step);
  int64_t row = 0;
  for (const Chunk& chunk : chunks) finish_chunk(*running_[static_cast<size_t>(chunk.sequence)], chunk.first, chunk.count, row);
  std::erase_if(running_, [&](Sequence* s) {
    if (s->finished == FinishReason::kNone) return false;
    pool_.give_back(s->pages);
    return true;
  });
  return !running_.empty() || !waiting_.empty();
}

StepChunk Engine::step_chunk(const Sequence& s, int64_t first, int64_t count) {
  const std::span<const int32_t> tokens = s.tokens;
  const auto begin = static_cast<size_t>(first), end = static_cast<size_t>(first + count);
  StepChunk chunk{tokens.subspan(begin, end - begin), static_cast<int32_t>(first), &s.pages, {}, false};
  if (s.request.sampling.prompt_logprobs) {
    const size_t last = std::min(end, s.request.prompt.size() - 1);
    if (begin < last) chunk.labels = tokens.subspan(begin + 1, last - begin);
  }
  chunk.sample = end == s.tokens.size() && s.request.sampling.max_tokens > 0;
  return chunk;
}

void Engine::finish_chunk(Sequence& s, int64_t first, int64_t count, int64_t& row) {
  const auto prompt = static_cast<int64_t>(s.request.prompt.size());
  const SamplingParams& params = s.request.sampling;
  if (params.prompt_logprobs)
    for (int64_t i = first; i < first + count && i + 1 < prompt; ++i) s.prompt_logprobs.push_back(runner_->logprob(row++));
  s.cached = first + count;
  if (s.cached < static_cast<int64_t>(s.tokens.size())) return;
  if (params.max_tokens <= 0) {
    s.finished = FinishReason::kLength;
    return;
  }
  accept(s, sample(runner_->logits(row++), params, static_cast<int64_t>(s.output_size())));
}

void Engine::accept(Sequence& s, int32_t token) {
  const SamplingParams& params = s.request.sampling;
  s.tokens.push_back(token);
  if (std::find(params.stop_ids.begin(), params.stop_ids.end(), token) != params.stop_ids.end()) s.finished = FinishReason::kStop;
  else if (static_cast<int>(s.output_size()) >= params.max_tokens || static_cast<int64_t>(s.tokens.size()) >= runner_->options().max_length)
    s.finished = FinishReason::kLength;
  if (on_token) on_token(s, token);
}

}  // namespace flagscale::engine
