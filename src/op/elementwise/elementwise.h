#pragma once
// Sums, zeros and casts over tensors of the same shape. Views may be row-strided.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct AddArgs {
  In a, b;
  Out out;                 // may be b itself
  void* stream = nullptr;  // of a GPU, where it is launched; null: the thread's
  auto operands() { return std::tie(a, b, out); }
};
inline constinit KernelSlot<AddArgs> kAdd{"add"};

struct ZeroArgs {
  Out out;
  auto operands() { return std::tie(out); }
};
inline constinit KernelSlot<ZeroArgs> kZero{"zero"};

struct CastArgs {
  In x;
  Out out;  // of another float type
  auto operands() { return std::tie(x, out); }
};
inline constinit KernelSlot<CastArgs> kCast{"cast"};

// out = a + b, dtype and shape of both.
Tensor add(Context& context, const Tensor& a, const Tensor& b);

// x as dtype (float32 or bfloat16); no gradient.
Tensor cast(Context& context, const Tensor& x, DType dtype);

// A tape that knows how to add and clear gradients.
Tape make_tape();

}  // namespace flagscale::op
