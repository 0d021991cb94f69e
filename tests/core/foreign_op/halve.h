#pragma once
// y = x / 2: an op outside src/, to show that one needs no list.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::foreign {

struct HalveArgs {
  In x;
  Out y;
  auto operands() { return std::tie(x, y); }
};
inline constinit KernelSlot<HalveArgs> kHalve{"halve"};

inline Tensor halve(Context& c, const Tensor& x) {
  const Tensor y = c.recorder.empty_like(x);
  c.recorder.launch(kHalve, {x, y});
  if (c.tape)
    c.tape->record({x}, {y}, [x](Backward& b) {
      const Tensor dx = b.buffer(x);
      b.recorder.launch(kHalve, {b.grad(0), dx});
      b.give(x, dx);
    });
  return y;
}

}  // namespace flagscale::foreign
