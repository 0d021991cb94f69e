#include "engine/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "engine/sampler.h"

namespace flagscale::engine {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

bool penalises_output(const SamplingParams& p) { return p.presence_penalty != 0 || p.frequency_penalty != 0; }

bool changes_logits(const Sequence& s, int64_t unknown = 0) {
  const SamplingParams& p = s.job->request.sampling;
  return penalises_output(p) || p.repetition_penalty != 1 || !p.logit_bias.empty() ||
         !p.allowed_ids.empty() || s.output_size() + unknown < p.min_tokens || s.grammar;
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

void make_mask(Sequence& s, size_t vocab) {
  s.mask.resize((vocab + 31) / 32);
  s.grammar->mask(s.mask);
  s.masked = true;
}

// Where the text may end, every stop id may stand for the grammar's end token, which itself may only where it
// is one.
void keep_grammatical(Sequence& s, std::span<float> logits) {
  if (!s.masked) make_mask(s, logits.size());
  s.masked = false;  // a token follows
  std::vector<uint32_t>& words = s.mask;
  const auto bit = [&](int32_t id) -> std::pair<uint32_t&, uint32_t> {
    return {words[static_cast<size_t>(id) / 32], 1u << (id % 32)};
  };
  const auto [end_word, end_bit] = bit(s.job->grammar_end);
  s.may_end = (end_word & end_bit) != 0;
  if (s.may_end) {
    end_word &= ~end_bit;
    for (const int32_t id : s.job->request.sampling.stop_ids) bit(id).first |= bit(id).second;
  }
  for (size_t i = 0; i < logits.size(); ++i)
    if ((words[i / 32] >> (i % 32) & 1) == 0) logits[i] = kMinusInfinity;
}

void change_logits(Sequence& s, std::span<float> logits) {
  const SamplingParams& p = s.job->request.sampling;
  if (s.grammar) keep_grammatical(s, logits);
  if (!p.allowed_ids.empty()) keep_only(logits, p.allowed_ids);
  if (s.output_size() < p.min_tokens)
    for (const int32_t id : p.stop_ids) logits[static_cast<size_t>(id)] = kMinusInfinity;
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<size_t>(id)] += bias;
  penalise(s, logits);
}

OutputToken next_token(Sequence& s, const LogitRows& rows, int64_t row) {
  const SamplingParams& p = s.job->request.sampling;
  OutputToken token;
  if (rows.drawn) {
    token.id = rows.drawn[row];
    return token;
  }
  const std::span<float> logits = rows[row];
  float lse = 0;
  thread_local std::vector<float> raw;
  const bool wanted = p.logprobs >= 0, changes = changes_logits(s);
  if (wanted) {
    lse = log_sum_exp(logits);
    token.best = best_tokens(logits, lse, p.logprobs);
    if (changes) raw.assign(logits.begin(), logits.end());
  }
  if (changes) {
    token.id = kNotNumbers;
    if (!are_numbers(logits)) return token;  // while those that a grammar masks can still be seen
    change_logits(s, logits);
  }
  token.id = sample(logits, p, {p.seed, static_cast<uint32_t>(s.choice), s.output_size()});
  if (wanted && token.id >= 0)
    token.logprob =
        (changes ? raw[static_cast<size_t>(token.id)] : logits[static_cast<size_t>(token.id)]) - lse;
  return token;
}

void accept(Sequence& s, OutputToken token, int64_t max_length) {
  const SamplingParams& p = s.job->request.sampling;
  s.tokens.push_back(token.id);
  if (penalises_output(p)) ++s.output_counts[token.id];
  if (std::ranges::find(p.stop_ids, token.id) != p.stop_ids.end()) {
    s.event.finish = FinishReason::kStop;
    s.event.stop_id = token.id;
  } else if (s.grammar && s.grammar->accept(token.id)) {
    s.event.finish = FinishReason::kStop;  // nothing may follow
  }
  if (s.event.finish == FinishReason::kNone && (s.output_size() >= p.max_tokens || s.size() >= max_length))
    s.event.finish = FinishReason::kLength;
  s.event.tokens.push_back(std::move(token));
}

// No token is left: a text that its grammar lets end here ends, anything else is the request's mistake.
void end_without_token(Sequence& s) {
  s.event.finish = s.grammar && s.may_end ? FinishReason::kStop : FinishReason::kError;
  if (s.event.finish != FinishReason::kError) return;
  s.event.refused = true;
  const SamplingParams& p = s.job->request.sampling;
  const bool alone = s.grammar && p.allowed_ids.empty() && p.logit_bias.empty() && p.min_tokens == 0;
  s.event.error =
      alone ? "grammar: no token may come next"
            : "no token may come next: the grammar, allowed_token_ids, logit_bias and min_tokens leave none";
}

void draw_row(Sequence& s, const LogitRows& rows, int64_t row, int64_t max_length) {
  OutputToken token = next_token(s, rows, row);
  if (token.id == kNotNumbers || (token.id == kNoToken && !changes_logits(s)))
    end_without_numbers(s, s.size());
  else if (token.id == kNoToken)
    end_without_token(s);
  else
    accept(s, std::move(token), max_length);
}

}  // namespace

bool draws_plainly(const Sequence& s, int64_t unknown) {
  const SamplingParams& p = s.job->request.sampling;
  return p.logprobs < 0 && p.prompt_logprobs < 0 && !changes_logits(s, unknown);
}

void plan_draws(const Sequence& s, int64_t unknown, int64_t count, std::vector<op::Draw>& draws) {
  const SamplingParams& p = s.job->request.sampling;
  draws.assign(static_cast<size_t>(count), {});
  if (p.temperature <= 0) return;
  for (int64_t i = 0; i < count; ++i)
    draws[static_cast<size_t>(i)] = {
        1 / p.temperature, p.min_p, p.top_k, p.top_p,
        uniform({p.seed, static_cast<uint32_t>(s.choice), s.output_size() + unknown + i})};
}

void end_without_numbers(Sequence& s, int64_t tokens) {
  s.event.finish = FinishReason::kError;
  s.event.error = fmt::format(
      "what the model gives after {} {} is not a number (NaN or infinite): its weights are damaged, or too "
      "large for this precision",
      tokens, tokens == 1 ? "token" : "tokens");
}

void score_prompt(Sequence& s, int64_t first, const LogitRows& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const std::span<const float> logits = rows[i];
    const float lse = log_sum_exp(logits);
    if (!std::isfinite(lse)) return end_without_numbers(s, first + i + 1);
    const int32_t id = s.tokens[static_cast<size_t>(first + i + 1)];
    s.event.prompt.push_back({id, logits[static_cast<size_t>(id)] - lse,
                              best_tokens(logits, lse, s.job->request.sampling.prompt_logprobs),
                              s.job->request.sampling.prompt_ranks ? rank_of(logits, id) : 0});
  }
  s.prompt_scored += rows.count;
}

void prepare_mask(Sequence& s, int64_t vocab) {
  if (!s.grammar || s.masked) return;
  try {
    make_mask(s, static_cast<size_t>(vocab));
  } catch (const Error&) {  // draw() meets it again, and tells
  }
}

void draw(Sequence& s, const LogitRows& rows, std::span<const int32_t> drafts, int64_t max_length) {
  for (int64_t i = 0; i < rows.count; ++i) {
    try {
      draw_row(s, rows, i, max_length);
    } catch (const Error& error) {  // a grammar that needs too much work
      s.event.finish = FinishReason::kError;
      s.event.refused = true;
      s.event.error = error.what();
    }
    const auto at = static_cast<size_t>(i);
    if (s.event.finish != FinishReason::kNone || at >= drafts.size() || drafts[at] != s.tokens.back()) return;
  }
}

}  // namespace flagscale::engine
