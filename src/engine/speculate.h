#pragma once
// Guesses of what comes next by prompt lookup (Saxena, 2023): the last tokens stood in the text before; what
// followed them there may follow again.

#include <cstdint>
#include <span>
#include <vector>

namespace flagscale::engine {

// vLLM's speculative_config with method "ngram".
struct Speculation {
  int draft_tokens = 0;  // num_speculative_tokens: guesses for one step; 0: none
  int lookup_max = 4;    // prompt_lookup_max: tokens that must match, at most; the longest match counts
  int lookup_min = 2;    // prompt_lookup_min
};

// Appends at most `most` tokens: what followed the latest earlier place where the last lookup_max to
// lookup_min tokens stand.
void propose(std::span<const int32_t> tokens, const Speculation& options, int64_t most,
             std::vector<int32_t>& drafts);

}  // namespace flagscale::engine
