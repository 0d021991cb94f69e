#pragma once
// Products of serving whose both factors are e4m3 numbers (W8A8, on GPUs whose tensor cores multiply them):
// twice the arithmetic of bf16, half the bytes. The weight has a scale a row. x is rounded when it is
// multiplied, with a scale for each kFp8Numbers neighbours of a row, so a row's bits do not depend on how
// many there are:
//   y[i, j] = w_scale[j] * sum over slices s of x_scale[i, s] * (sum over k of s of qx[i, k] qw[j, k]) +
//   bias[j] x_scale[i, s] = largest |x[i, k]| of the slice / 448,  qx = e4m3(x * (448 / largest))

#include <tuple>

#include "autograd/context.h"
#include "op/fp8_linear/fp8_rows.h"
#include "op/narrow_linear/narrow_weight.h"

namespace flagscale::op {

struct Fp8LinearArgs {
  In x;             // [rows, in] bf16, row-strided; with x_scales the numbers of Fp8Rows
  In x_scales;      // undefined, or the scales of Fp8Rows
  In up;            // undefined, or as x: the product is that of silu(x) up, rounded to bf16 (op/swiglu)
  In data, scales;  // as NarrowWeight has them, kFp8Rows
  In bias;          // [out] bf16 or undefined
  Out y;            // [rows, out] bf16 or fp32
  auto operands() { return std::tie(x, x_scales, up, data, scales, bias, y); }
};
inline constinit KernelSlot<Fp8LinearArgs> kFp8Linear{"fp8_linear"};

Tensor fp8_linear(Context& context, const Tensor& x, const NarrowWeight& weight, const Tensor& bias,
                  DType out);
Tensor fp8_linear(Context& context, const Fp8Rows& x, const NarrowWeight& weight, const Tensor& bias,
                  DType out);
// Of silu(gate) up, which is never written to memory.
Tensor fp8_gated_linear(Context& context, const Tensor& gate, const Tensor& up, const NarrowWeight& weight,
                        const Tensor& bias, DType out);

}  // namespace flagscale::op
