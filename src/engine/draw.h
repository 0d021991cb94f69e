#pragma once
// The rows of logits that a step made for one sequence, turned into what its event says. Every sequence draws
// from its own rows and its own state alone, so sequences may draw on different threads. Nothing here throws.

#include <span>
#include <vector>

#include "engine/sequence.h"
#include "op/draw_rows/draw_rows.h"

namespace flagscale::engine {

// Consecutive rows of logits; drawing changes them.
struct LogitRows {
  float* data = nullptr;
  const int32_t* drawn = nullptr;  // from each row already: then its logits are not there
  int64_t vocab = 0, count = 0;
  std::span<float> operator[](int64_t i) const { return {data + i * vocab, static_cast<size_t>(vocab)}; }
};

// Whether drawing looks at nothing but the logits as the model gives them, now and later in the same step, so
// that a GPU may do it. It depends on the request and how far it is, not on who else is in the step.
// unknown: tokens that it has beside those that are known.
bool draws_plainly(const Sequence& sequence, int64_t unknown);
// How rows for the `count` tokens after these are then drawn from.
void plan_draws(const Sequence& sequence, int64_t unknown, int64_t count, std::vector<op::Draw>& draws);

// Ends it with kError, which is the model's doing and not the request's: what the model gives after that many
// of its tokens is not a number.
void end_without_numbers(Sequence& sequence, int64_t tokens);

// Log-probabilities of the prompt tokens after positions first, first + 1, ..., one a row. Ends the sequence
// with kError where a row is not a number.
void score_prompt(Sequence& sequence, int64_t first, const LogitRows& rows);

// What draw() will want of a sequence's grammar for the first row: it depends on the tokens that there are,
// not on logits, so it may be done before these are known.
void prepare_mask(Sequence& sequence, int64_t vocab);

// Draws the next token from the first row; while it is the token that was drafted there, the next one from
// the next row. Ends the sequence at a stop id, at max_tokens and at max_length; with kError where no token
// may come next or the row is not a number.
void draw(Sequence& sequence, const LogitRows& rows, std::span<const int32_t> drafts, int64_t max_length);

}  // namespace flagscale::engine
