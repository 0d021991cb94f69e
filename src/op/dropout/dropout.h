#pragma once
// Dropout (Srivastava et al., 2014) with counted random numbers (Philox4x32-10): whether an element stays is
// a function of (seed, stream, row, column) alone, so backward and a repeated forward pass draw again what
// the forward pass drew, nothing is stored, and micro-batches, ranks and resumed runs agree.

#include <cstdint>
#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

// Read when kernels run.
struct DropoutRows {
  int64_t first = 0;  // index of row 0 among all rows that a run draws for
};

struct DropoutArgs {
  In x;         // [rows, cols], row-strided; with places, or only scaled, [tokens, top_k, cols]
  Out out;      // the same shape and type; may be x itself
  float scale;  // of everything
  float rate;   // in [0, 1): what stays is divided by 1 - rate; 0: only scaled
  uint64_t seed, stream;
  const DropoutRows* rows;  // null where rate is 0
  // Of rows [tokens, top_k, cols] in another order, int32: each is row first * top_k + its place of the run.
  In places{};
  auto operands() { return std::tie(x, out, places); }
};
inline constinit KernelSlot<DropoutArgs> kDropout{"dropout"};

// Launches out = scale * x * stays / (1 - rate).
void launch_dropout(Recorder& recorder, const DropoutArgs& args);

}  // namespace flagscale::op
