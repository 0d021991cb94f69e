#pragma once
// Rotates each head's q or k by its token's position: (a, b) -> (a cos - b sin, b cos + a sin) on the pairs
// (j, j + head_dim/2), or (2j, 2j+1) where interleaved. The gradient is the rotation backwards.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct RopeArgs {
  In x;          // [tokens, heads * head_dim], row-strided
  In positions;  // [tokens] int32; outside the tables: the last row
  In cos, sin;   // fp32 [positions, head_dim / 2]
  Out y;         // [tokens, heads * head_dim]
  bool interleaved = false, backwards = false;
  auto operands() { return std::tie(x, positions, cos, sin, y); }
};
inline constinit KernelSlot<RopeArgs> kRope{"rope"};

Tensor rope(Context& context, const Tensor& x, const Tensor& positions, const Tensor& cos, const Tensor& sin,
            bool interleaved);

}  // namespace flagscale::op
