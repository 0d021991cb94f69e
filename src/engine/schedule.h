#pragma once
// Which tokens the next step runs: pure functions, tested without a model. Sequences that generate go first,
// one token each and what they drafted; prompts fill what is left of the budget in chunks. Pages are asked
// for as sequences grow; when none is left the sequence served last gives its own back and computes again
// later.

#include <cstdint>
#include <span>
#include <vector>

namespace flagscale::engine {

// What a step has to give.
struct Budget {
  int64_t tokens = 0;
  int64_t rows = 0;   // of logits
  int64_t pages = 0;  // free
};

// A running sequence.
struct Progress {
  int64_t cached = 0;     // tokens in the cache
  int64_t left = 0;       // tokens that are not; 1: it generates
  int64_t pages = 0;      // that it holds
  int64_t drafts = 0;     // guessed tokens after its last one
  bool all_rows = false;  // the logits of each token are wanted, not of the last alone
};

struct Chunk {
  int sequence = 0;  // index into the running sequences
  int64_t first = 0, count = 0;
  int64_t drafts = 0;  // guessed tokens behind them
};

struct StepPlan {
  std::vector<Chunk> chunks;
  int preempt = -1;      // take this one's pages away and plan again: chunks say nothing then
  bool stalled = false;  // a sequence waits for pages: nobody new may start
};

// Running sequences in the order in which they are served. Takes what it plans off the budget. The first one
// always gets on when it alone fits the cache: whoever comes after it is preempted first.
void plan_step(std::span<const Progress> running, int64_t page_tokens, Budget& budget, StepPlan& plan);

// The sequence that would start next. found: its tokens that the prefix cache has; revived: pages of these
// that are free now. reserved: pages that those which run will soon ask for. The number of its tokens to run
// in this step; 0: it must wait, and so must all behind it. Beside others one starts only when its whole text
// fits, else it would be preempted soon.
int64_t plan_start(const Progress& next, int64_t found, int64_t revived, int64_t reserved,
                   int64_t page_tokens, const Budget& budget);

}  // namespace flagscale::engine
