#pragma once
// Experts' products of serving on a GPU whose weight has eight or four bits an element: op/grouped_matmul
// with a narrow weight (op/narrow_linear). A row's bits are those of op::grouped_linear over the bf16 weight
// that the narrow one stands for, however many rows there are.

#include <tuple>

#include "autograd/context.h"
#include "op/narrow_linear/narrow_weight.h"

namespace flagscale::op {

struct NarrowGroupedArgs {
  In x;             // [tokens, top_k, in] bf16, sorted by expert
  In counts;        // [experts] int32
  In data, scales;  // as NarrowWeight has them, expert after expert, each of whole panels
  Out y;            // [tokens, top_k, out] bf16
  Narrow format;
  auto operands() { return std::tie(x, counts, data, scales, y); }
};
inline constinit KernelSlot<NarrowGroupedArgs> kNarrowGrouped{"narrow_grouped"};

// Throws Error{kInvalidArgument} where experts' rows are no whole panels.
Tensor narrow_grouped(Context& context, const Tensor& x, const Tensor& counts, const NarrowWeight& weight);

}  // namespace flagscale::op
