#pragma once
// y = silu(gate) * up (Shazeer, "GLU Variants Improve Transformer", 2020), computed in fp32.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct SwigluArgs {
  In gate, up;  // [.., n] seen as [rows, n], row-strided: columns of one fused product
  Out y;        // the same shape
  auto operands() { return std::tie(gate, up, y); }
};
inline constinit KernelSlot<SwigluArgs> kSwiglu{"swiglu"};

struct SwigluBackwardArgs {
  In gate, up, dy;
  Out dgate, dup;
  Out y{};  // once more, as the forward pass had it; undefined: not wanted
  auto operands() { return std::tie(gate, up, dy, dgate, dup, y); }
};
inline constinit KernelSlot<SwigluBackwardArgs> kSwigluBackward{"swiglu_backward"};

Tensor swiglu(Context& context, const Tensor& gate, const Tensor& up);

}  // namespace flagscale::op
