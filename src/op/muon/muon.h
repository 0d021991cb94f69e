#pragma once
// Muon (Keller Jordan, 2024), as Megatron-core has it: a matrix moves along its momentum with all singular
// values made about 1, by Newton-Schulz steps; decoupled weight decay.
//
//   g = grad * clip;  m = b m + (1 - b) g;  d = m, or (1 - b) g + b m with nesterov;  x = d / |d|
//   steps times: with A = x x^T (x^T x where there are more rows than columns), x = a x + (b A + c A A) x
//   p -= lr * (scale * x + weight_decay * p)
//
// The steps are in fp32 or, as in Keller Jordan's and torch.optim.Muon, in bf16 with sums in fp32: they only
// have to bring singular values near 1.

#include <tuple>

#include "op/adamw/adamw.h"

namespace flagscale::op {

struct MuonDirectionArgs {
  InOut m;  // [rows, columns] fp32
  In grad;  // fp32, of its shape
  In norm;  // [1] fp32, of all gradients; not finite: m stays and the direction is 0
  Out direction;
  In step;  // a StepScalars, as bytes
  float momentum;
  bool nesterov;
  auto operands() { return std::tie(m, grad, norm, direction, step); }
};
inline constinit KernelSlot<MuonDirectionArgs> kMuonDirection{"muon_direction"};

// out = a x + b y, fp32 or bf16, of one size.
struct MuonSumArgs {
  In x, y;
  Out out;
  float a, b;
  auto operands() { return std::tie(x, y, out); }
};
inline constinit KernelSlot<MuonSumArgs> kMuonSum{"muon_sum"};

struct MuonApplyArgs {
  InOut param;   // [rows, columns] fp32
  In direction;  // fp32 or bf16, orthogonal
  In norm;       // [1] fp32; not finite: nothing is updated
  Out copy;      // bf16 working weights, or undefined
  In step;       // a StepScalars, as bytes
  float scale;
  bool decay;
  auto operands() { return std::tie(param, direction, norm, copy, step); }
};
inline constinit KernelSlot<MuonApplyArgs> kMuonApply{"muon_apply"};

// The Newton-Schulz steps on x [rows, columns] fp32, whose Frobenius norm is at most 1, in `type`, which is
// the result's.
Tensor orthogonalize(Recorder& recorder, Tensor x, int steps, DType type = DType::kF32);

}  // namespace flagscale::op
