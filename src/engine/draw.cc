#include "engine/draw.h"

#include <algorithm>
#include <limits>

#include "engine/sampler.h"

namespace flagscale::engine {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

bool penalises_output(const SamplingParams& p) { return p.presence_penalty != 0 || p.frequency_penalty != 0; }

bool changes_logits(const Sequence& s) {
  const SamplingParams& p = s.job->request.sampling;
  return penalises_output(p) || p.repetition_penalty != 1 || !p.logit_bias.empty() || !p.allowed_ids.empty() ||
         s.output_size() < p.min_tokens;
}

void keep_only(std::span<float> logits, std::span<const int32_t> allowed) {
  std::vector<float> kept;
  for (const int32_t id : allowed) kept.push_back(logits[static_cast<size_t>(id)]);
  std::ranges::fill(logits, kMinusInfinity);
  for (size_t i = 0; i < allowed.size(); ++i) logits[static_cast<size_t>(allowed[i])] = kept[i];
}

void penalise(const Sequence& s, std::span<float> logits) {
  const SamplingParams& p = s.job->request.sampling;
  if (p.repetition_penalty != 1) {
    thread_local std::vector<int32_t> seen;
    seen.assign(s.tokens.begin(), s.tokens.end());
    std::ranges::sort(seen);
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (const int32_t id : seen) {
      float& logit = logits[static_cast<size_t>(id)];
      logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    }
  }
  if (penalises_output(p))
    for (const auto& [id, times] : s.output_counts)
      logits[static_cast<size_t>(id)] -= p.frequency_penalty * static_cast<float>(times) + p.presence_penalty;
}

void change_logits(const Sequence& s, std::span<float> logits) {
  const SamplingParams& p = s.job->request.sampling;
  if (!p.allowed_ids.empty()) keep_only(logits, p.allowed_ids);
  if (s.output_size() < p.min_tokens)
    for (const int32_t id : p.stop_ids) logits[static_cast<size_t>(id)] = kMinusInfinity;
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<size_t>(id)] += bias;
  penalise(s, logits);
}

OutputToken next_token(const Sequence& s, std::span<float> logits) {
  const SamplingParams& p = s.job->request.sampling;
  OutputToken token;
  float lse = 0;
  thread_local std::vector<float> raw;
  const bool wanted = p.logprobs >= 0, changes = changes_logits(s);
  if (wanted) {
    lse = log_sum_exp(logits);
    token.best = best_tokens(logits, lse, p.logprobs);
    if (changes) raw.assign(logits.begin(), logits.end());
  }
  if (changes) change_logits(s, logits);
  token.id = sample(logits, p, {p.seed, static_cast<uint32_t>(s.choice), s.output_size()});
  if (wanted && token.id >= 0) token.logprob = (changes ? raw[static_cast<size_t>(token.id)] : logits[static_cast<size_t>(token.id)]) - lse;
  return token;
}

void accept(Sequence& s, OutputToken token, int64_t max_length) {
  const SamplingParams& p = s.job->request.sampling;
  s.tokens.push_back(token.id);
  if (penalises_output(p)) ++s.output_counts[token.id];
  if (std::ranges::find(p.stop_ids, token.id) != p.stop_ids.end()) {
    s.event.finish = FinishReason::kStop;
    s.event.stop_id = token.id;
  } else if (s.output_size() >= p.max_tokens || s.size() >= max_length) {
    s.event.finish = FinishReason::kLength;
  }
  s.event.tokens.push_back(std::move(token));
}

}  // namespace

void score_prompt(Sequence& s, int64_t first, const LogitRows& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const std::span<const float> logits = rows[i];
    const float lse = log_sum_exp(logits);
    const int32_t id = s.tokens[static_cast<size_t>(first + i + 1)];
    s.event.prompt.push_back({id, logits[static_cast<size_t>(id)] - lse,
                              best_tokens(logits, lse, s.job->request.sampling.prompt_logprobs)});
  }
  s.prompt_scored += rows.count;
}

void draw(Sequence& s, const LogitRows& rows, std::span<const int32_t> drafts, int64_t max_length) {
  for (int64_t i = 0; i < rows.count; ++i) {
    OutputToken token = next_token(s, rows[i]);
    if (token.id < 0) {
      s.event.finish = FinishReason::kError;
      s.event.error = "no token may come next: allowed_token_ids, logit_bias and min_tokens leave none";
      return;
    }
    const int32_t id = token.id;
    accept(s, std::move(token), max_length);
    if (s.event.finish != FinishReason::kNone || static_cast<size_t>(i) >= drafts.size() || drafts[static_cast<size_t>(i)] != id) return;
  }
}

}  // namespace flagscale::engine
