#pragma once
// y = a + sigmoid(gate) * b, one gate a row: how Qwen2-MoE adds its shared experts.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct GatedAddArgs {
  In a, b;  // [rows, n]
  In gate;  // [rows, 1] fp32 (fp64), before the sigmoid
  Out y;    // [rows, n]
  auto operands() { return std::tie(a, b, gate, y); }
};
inline constinit KernelSlot<GatedAddArgs> kGatedAdd{"gated_add"};

struct GatedAddBackwardArgs {
  In b, gate, dy;
  Out db, dgate;  // a's gradient is dy
  auto operands() { return std::tie(b, gate, dy, db, dgate); }
};
inline constinit KernelSlot<GatedAddBackwardArgs> kGatedAddBackward{"gated_add_backward"};

Tensor gated_add(Context& context, const Tensor& a, const Tensor& gate, const Tensor& b);

}  // namespace flagscale::op
