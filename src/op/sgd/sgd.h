#pragma once
// Stochastic gradient descent with momentum, as torch.optim.SGD: weight decay is added to the gradient.
//
//   g = grad * clip + weight_decay * p;  m = momentum * m + g;  p -= lr * m

#include <tuple>

#include "op/adamw/adamw.h"

namespace flagscale::op {

struct SgdArgs {
  InOut param;  // [n] fp32
  InOut m;      // [n] fp32, or undefined: without momentum
  In grad;      // [n] fp32
  In norm;      // [1] fp32; not finite: nothing is updated
  Out copy;     // [n] bf16 working weights, or undefined
  In step;      // a StepScalars, as bytes
  float momentum;
  bool decay;  // false for biases and norm weights
  auto operands() { return std::tie(param, m, grad, norm, copy, step); }
};
inline constinit KernelSlot<SgdArgs> kSgd{"sgd"};

}  // namespace flagscale::op
