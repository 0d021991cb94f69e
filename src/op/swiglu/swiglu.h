#pragma once
// y = silu(gate) * up (Shazeer, "GLU Variants Improve Transformer", 2020), computed in fp32.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct SwigluArgs {
  In gate, up;    // [.., n] seen as [rows, n], row-strided: columns of one fused product
  Out y;          // the same shape
  Out largest{};  // of y in bf16 (op/fp8_product/largest.h); undefined: not wanted
  auto operands() { return std::tie(gate, up, y, largest); }
};
inline constinit KernelSlot<SwigluArgs> kSwiglu{"swiglu"};

struct SwigluBackwardArgs {
  In gate, up, dy;
  Out dgate, dup;
  Out y{};        // once more, as the forward pass had it; undefined: not wanted
  Out largest{};  // of dgate and dup together
  auto operands() { return std::tie(gate, up, dy, dgate, dup, y, largest); }
};
inline constinit KernelSlot<SwigluBackwardArgs> kSwigluBackward{"swiglu_backward"};

// largest: not null: of the result.
Tensor swiglu(Context& context, const Tensor& gate, const Tensor& up, Tensor* largest = nullptr);

}  // namespace flagscale::op
