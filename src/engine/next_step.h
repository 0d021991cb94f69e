#pragma once
// A step, and what is known of the next one before the tokens of the current one are drawn, made while its
// model computes (engine_ahead.cc). The tokens are filled in afterwards, or taken where a GPU has drawn them.

#include <cstdint>
#include <vector>

#include "engine/runner.h"
#include "engine/schedule.h"
#include "engine/sequence.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

inline int64_t pages_for(int64_t tokens) { return (tokens + op::kPageTokens - 1) / op::kPageTokens; }

struct Step {
  std::vector<Sequence*> of;  // each chunk; null: it has ended since
  std::vector<StepChunk> chunks;
  int turn = 0;           // where the runner launches steps
  bool launched = false;  // already, before its tokens were known

  void clear() {
    of.clear();
    chunks.clear();
    launched = false;
  }
};

struct NextStep {
  // Tokens [first, first + count) of a sequence, of which `left` are not in the cache then.
  struct Part {
    Sequence* sequence = nullptr;  // null: it has ended since
    int64_t first = 0, count = 0, left = 0;
    size_t pages_begin = 0, pages_end = 0;  // of `pages`: it gets them with its chunk
  };

  std::vector<Part> parts;
  std::vector<int32_t> pages;  // taken for them
  Budget left;                 // of the step, for who arrives until then
  bool made = false;
  bool whole = false;  // nobody else could start, were the current step's tokens and pages known
};

}  // namespace flagscale::engine
