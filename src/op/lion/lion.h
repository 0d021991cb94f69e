#pragma once
// Lion (Chen et al., 2023): each weight moves by the learning rate, in the direction that momentum and
// gradient have together; decoupled weight decay.
//
//   g = grad * clip;  p -= lr * (sign(b1 m + (1 - b1) g) + weight_decay * p);  m = b2 m + (1 - b2) g

#include <tuple>

#include "op/adamw/adamw.h"

namespace flagscale::op {

struct LionArgs {
  InOut param, m;  // [n] fp32
  In grad;         // [n] fp32
  In norm;         // [1] fp32; not finite: nothing is updated
  Out copy;        // [n] bf16 working weights, or undefined
  In step;         // a StepScalars, as bytes
  float beta1, beta2;
  bool decay;  // false for biases and norm weights
  auto operands() { return std::tie(param, m, grad, norm, copy, step); }
};
inline constinit KernelSlot<LionArgs> kLion{"lion"};

}  // namespace flagscale::op
