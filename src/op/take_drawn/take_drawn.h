#pragma once
// Ids of a step's tokens, some of which the step before it drew: they are taken where they were drawn, so
// that the host need not know them.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct TakeDrawnArgs {
  In ids;    // [tokens] int32
  In rows;   // [tokens] int32: of `drawn`, or negative: the id is in ids
  In drawn;  // [rows] int32, by an earlier draw_rows
  Out y;     // [tokens] int32
  auto operands() { return std::tie(ids, rows, drawn, y); }
};
inline constinit KernelSlot<TakeDrawnArgs> kTakeDrawn{"take_drawn"};

Tensor take_drawn(Context& context, const Tensor& ids, const Tensor& rows, const Tensor& drawn);

}  // namespace flagscale::op
