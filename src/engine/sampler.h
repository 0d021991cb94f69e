#pragma once
// From a row of logits to a token and its log-probability. Random numbers are keyed by the request's seed,
// the choice and the position of the output token, so a request draws the same whatever else is in the batch.

#include <span>

#include "engine/request.h"

namespace flagscale::engine {

// Which random number: position counts from the output's first token.
struct DrawKey {
  uint64_t seed = 0;
  uint32_t choice = 0;
  int64_t position = 0;
};

// A uniform number in [0, 1): Philox4x32-10.
double uniform(const DrawKey& key);

// Draws by temperature, then min_p, top_k and top_p in this order, each renormalised, as vLLM has them.
// Logits of -inf are never drawn: kNoToken when all are. kNotNumbers where one is NaN or +inf. Greedy ties go
// to the lowest id.
constexpr int32_t kNoToken = -1, kNotNumbers = -2;
int32_t sample(std::span<const float> logits, const SamplingParams& params, const DrawKey& key);

// False where a logit is NaN or +inf, or all are -inf.
bool are_numbers(std::span<const float> logits);

// Not finite where a logit is NaN or +inf, or all are -inf.
float log_sum_exp(std::span<const float> logits);

// The `count` likeliest, likeliest first, ties to the lower id. lse: log_sum_exp(logits).
std::vector<TokenLogprob> best_tokens(std::span<const float> logits, float lse, int count);
// The place of a token in that order, 1: the likeliest.
int rank_of(std::span<const float> logits, int32_t id);

}  // namespace flagscale::engine
