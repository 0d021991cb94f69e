#pragma once
// AdamW (Loshchilov and Hutter, 2019) with decoupled weight decay, and the gradient's norm that clips it or
// skips the step. What varies from step to step is in the device's memory, so one plan, and on a GPU one
// graph, serves every step.
//
//   g = grad * min(1, clip / (norm + 1e-6));  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= lr * (m / bias1 / (sqrt(v / bias2) + eps) + weight_decay * p)
//
// Weights, moments and gradients are fp32 or bf16 each: the arithmetic is fp32, and what is kept in bf16 is
// rounded once, as in PyTorch's fused AdamW.

#include <cstdint>
#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

// What varies from step to step.
struct StepScalars {
  float lr = 0;
  float weight_decay = 0;
  float bias1 = 1, bias2 = 1;  // 1 - beta^step
  float clip = 0;              // 0: no clipping
  int64_t skip = 0;            // not 0: nothing is updated (a spike)
  int64_t update = 1;          // its number, from 1
};

// The norm in two steps, so that ranks may each do some of the first: of blocks of one flat bucket, then of
// all.
constexpr int64_t kNormBlock = 65536;
struct GradSquaresArgs {
  In grads;  // [n] fp32 or bf16, from a block's begin
  Out sums;  // [n / kNormBlock, rounded up] fp64: of the squares of each block
  auto operands() { return std::tie(grads, sums); }
};
inline constinit KernelSlot<GradSquaresArgs> kGradSquares{"grad_squares"};

struct GradNormArgs {
  In sums;   // of all blocks
  Out norm;  // [1] fp32: the L2 norm, sums added in a fixed order
  In loss;   // [1] fp32 or undefined: not finite, and the norm is NaN
  auto operands() { return std::tie(sums, norm, loss); }
};
inline constinit KernelSlot<GradNormArgs> kGradNorm{"grad_norm"};

struct AdamWArgs {
  InOut param, m, v;  // [n] fp32 or bf16, each
  In grad;            // [n] fp32 or bf16
  In norm;            // [1] fp32; not finite: nothing is updated
  Out copy;           // [n] bf16 working weights, or undefined
  In step;            // a StepScalars, as bytes
  float beta1, beta2, eps;
  bool decay;  // false for biases and norm weights
  auto operands() { return std::tie(param, m, v, grad, norm, copy, step); }
};
inline constinit KernelSlot<AdamWArgs> kAdamW{"adamw"};

}  // namespace flagscale::op
