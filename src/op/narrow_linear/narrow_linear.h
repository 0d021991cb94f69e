#pragma once
// Products of serving on a GPU whose weight has eight or four bits an element (narrow_weight.h): decoding
// reads half the bytes of bf16, or a quarter. A row's bits do not depend on how many rows there are; they are
// those of op::linear, steady, over the bf16 weight that the narrow one stands for.

#include <tuple>

#include "autograd/context.h"
#include "op/narrow_linear/narrow_weight.h"

namespace flagscale::op {

struct NarrowLinearArgs {
  In x;             // [rows, in] bf16, row-strided
  In data, scales;  // as NarrowWeight has them
  In bias;          // [out] bf16 or undefined
  Out y;            // [rows, out] bf16 or fp32
  Narrow format;
  auto operands() { return std::tie(x, data, scales, bias, y); }
};
inline constinit KernelSlot<NarrowLinearArgs> kNarrowLinear{"narrow_linear"};

Tensor narrow_linear(Context& context, const Tensor& x, const NarrowWeight& weight, const Tensor& bias,
                     DType out);

}  // namespace flagscale::op
