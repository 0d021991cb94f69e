#pragma once
// Whether a step is worth more than one thread. Where each launch takes a microsecond or two, threads that
// meet after each cost more than they give, most of all when others (connections, clients) want the cores
// too.

#include <cstdint>

#include "engine/weights.h"
#include "model/decoder/decoder.h"

namespace flagscale::engine {

// What a step computes.
struct StepWork {
  int64_t tokens = 0;
  int64_t rows = 0;      // of logits
  int64_t attended = 0;  // keys, summed over the tokens
};

// About the seconds that one thread takes for it; right to a factor of two or so.
double alone_seconds(const StepWork& work, const WeightUse& use, const model::DecoderConfig& config);

bool worth_a_team(const StepWork& work, const WeightUse& use, const model::DecoderConfig& config,
                  size_t launches);

}  // namespace flagscale::engine
