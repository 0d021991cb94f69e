#pragma once
// Root mean square normalisation (Zhang and Sennrich, 2019), optionally of a sum: the residual addition
// before a norm costs no pass of its own. Statistics in fp32.
//
//   s = x + delta;  rstd = 1 / sqrt(mean(s^2) + eps);  y = s * rstd * weight
//
// The mean is over groups of weight.dim(0) columns: the whole row, or one head each (Qwen3's q and k norms).

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct RmsNormArgs {
  In x;       // [rows, cols], row-strided
  In delta;   // [rows, cols] or undefined
  In weight;  // [group]
  Out sum;    // [rows, cols], defined with delta
  Out y;      // [rows, cols]
  Out rstd;   // [rows, cols / group] fp32 (fp64 for fp64)
  float eps;
  Out largest{};  // of y in bf16 (op/fp8_product/largest.h); undefined: not wanted
  auto operands() { return std::tie(x, delta, weight, sum, y, rstd, largest); }
};
inline constinit KernelSlot<RmsNormArgs> kRmsNorm{"rms_norm"};

struct RmsNormBackwardArgs {
  In s, weight, rstd;         // s: what was normalised
  In dy, dsum;                // dsum undefined: nothing else used the sum
  Out dx;                     // gradient of x and of delta
  InOut dweight;              // [group] fp32, bf16 (fp64); undefined: frozen
  const int64_t* accumulate;  // see Backward::Sink
  Out y{};                    // once more, as the forward pass had it; undefined: not wanted
  Out largest{};              // of dx
  auto operands() { return std::tie(s, weight, rstd, dy, dsum, dx, dweight, y, largest); }
};
inline constinit KernelSlot<RmsNormBackwardArgs> kRmsNormBackward{"rms_norm_backward"};

// largest: not null: of the result.
Tensor rms_norm(Context& context, const Tensor& x, const Tensor& weight, float eps,
                Tensor* largest = nullptr);

struct AddRmsNorm {
  Tensor sum, y;
};
AddRmsNorm add_rms_norm(Context& context, const Tensor& x, const Tensor& delta, const Tensor& weight,
                        float eps, Tensor* largest = nullptr);

}  // namespace flagscale::op
