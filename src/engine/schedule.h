#pragma once
// Which tokens the next step runs: a pure function, tested without a model. Sequences that generate go first, one token
// each; prompts fill what is left of the budget in chunks, in order of arrival.

#include <cstdint>
#include <vector>

namespace flagscale::engine {

struct Progress {  // of one running sequence
  int64_t tokens = 0, cached = 0;
};

struct Chunk {
  int sequence;         // index into the running sequences
  int64_t first, count; // tokens of it
};

// At most `budget` tokens; every sequence with uncached tokens at most once.
std::vector<Chunk> plan_step(const std::vector<Progress>& running, int64_t budget);

}  // namespace flagscale::engine
