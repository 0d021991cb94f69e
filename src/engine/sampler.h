#pragma once
// From logits to a token. Random numbers are keyed by the request's seed and the position of the output token, so a
// request draws the same whatever else is in the batch.

#include <span>

#include "engine/request.h"

namespace flagscale::engine {

// position: of the token to draw, counted from the output's first. Greedy ties go to the lowest id.
int32_t sample(std::span<const float> logits, const SamplingParams& params, int64_t position);

// A uniform number in [0, 1) of (seed, position): Philox4x32-10.
double uniform(uint64_t seed, int64_t position);

}  // namespace flagscale::engine
