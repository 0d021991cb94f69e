#pragma once
// The column of each row's largest number: what greedy decoding draws.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

constexpr int32_t kAllMinusInfinity = -1, kNotANumber = -2;

struct ArgmaxArgs {
  In x;      // [rows, n] fp32
  Out best;  // [rows] int32: the lowest on ties; kNotANumber where one is NaN or +inf
  auto operands() { return std::tie(x, best); }
};
inline constinit KernelSlot<ArgmaxArgs> kArgmax{"argmax"};

Tensor argmax(Context& context, const Tensor& x);

}  // namespace flagscale::op
