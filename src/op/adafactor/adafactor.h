#pragma once
// Adafactor (Shazeer and Stern, 2018) without a first moment, as transformers' Adafactor with
// relative_step=False: the second moment of a matrix is kept as the means of its rows and columns.
//
//   g = grad * clip;  s = g^2 + 1e-30;  b = 1 - update^decay_rate
//   row = b row + (1 - b) mean of s over columns;  column likewise over rows;  v = row column / mean(row)
//   u = g / sqrt(v), divided by max(1, rms(u) / clip_threshold)
//   a = lr, times max(1e-3, rms(p)) with scale_parameter;  p -= a * (u + weight_decay * p)

#include <tuple>

#include "op/adamw/adamw.h"

namespace flagscale::op {

struct AdafactorArgs {
  InOut param;        // [rows, columns] or [n], fp32, contiguous
  InOut row, column;  // fp32 [rows] and [columns]; of a vector [n], its second moment itself, and undefined
  In grad;            // fp32, of the parameter's shape
  In norm;            // [1] fp32; not finite: nothing is updated
  Out copy;           // bf16 working weights, or undefined
  In step;            // a StepScalars, as bytes
  float decay_rate, clip_threshold;
  bool scale_parameter;
  bool decay;  // false for biases and norm weights
  auto operands() { return std::tie(param, row, column, grad, norm, copy, step); }
};
inline constinit KernelSlot<AdafactorArgs> kAdafactor{"adafactor"};

}  // namespace flagscale::op
