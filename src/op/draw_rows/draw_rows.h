#pragma once
// A token for each row of logits, drawn where they are: what comes back of a row is its number.
//
// Weights are exp((x - largest) * scale). Of them stay those of at least min_p, of those the top_k largest,
// of those the fewest largest that have top_p of the sum; ties with the last one stay too. One is drawn in
// order of columns. Sums are of whole numbers, 2^-40 each, so that their order changes nothing.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

// How a row is drawn from.
struct Draw {
  float scale = 0;  // 1 / temperature; 0: the largest, the lowest column on ties
  float min_p = 0;
  int32_t top_k = 0;  // 0: all
  float top_p = 1;
  double uniform = 0;  // in [0, 1)
};
constexpr int64_t kDrawWords = sizeof(Draw) / sizeof(int32_t);

// In place of a column: all are -inf; one is NaN or +inf.
constexpr int32_t kAllMinusInfinity = -1, kNotANumber = -2;

struct DrawRowsArgs {
  In x;       // [rows, n] fp32
  In how;     // [rows, kDrawWords] int32, each row a Draw
  Out drawn;  // [rows] int32
  auto operands() { return std::tie(x, how, drawn); }
};
inline constinit KernelSlot<DrawRowsArgs> kDrawRows{"draw_rows"};

// At most 2^19 columns. drawn: where they go; none: a new tensor.
Tensor draw_rows(Context& context, const Tensor& x, const Tensor& how, Tensor drawn = {});

}  // namespace flagscale::op
