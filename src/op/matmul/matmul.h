#pragma once
// Matrix products of dense weights: out = op(a) op(b), or sum (+)= op(a) op(b), where op transposes or not.
// Sums in fp32 (fp64 for fp64). The order of each sum depends on its length and type alone, never on threads,
// nor on the other dimensions, but for products on a GPU that are not `steady`.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct MatmulArgs {
  In a, b;    // 2-D, row-strided, both of one float type
  Out out;    // [m, n] of the inputs' type or fp32; or
  InOut sum;  // [m, n] fp32, bf16 (fp64), rounded once: exactly one of the two is defined
  bool trans_a = false, trans_b = false;
  const int64_t* accumulate = nullptr;  // sum: null or not 0 adds, 0 overwrites
  In bias;                              // [n] added to every row of out, or undefined
  bool steady = false;                  // out = a b^T: a row's bits do not depend on how many there are
  auto operands() { return std::tie(a, b, out, sum, bias); }
};
inline constinit KernelSlot<MatmulArgs> kMatmul{"matmul"};

// Checks the shapes and records the launch.
void launch_matmul(Recorder& recorder, const MatmulArgs& args);

// Gives x the gradient dy weight.
void give_product(Backward& backward, const Tensor& dy, const Tensor& weight, const Tensor& x);

// y = x W^T + bias: x [rows, in], weight [out, in], bias [out] or undefined. y has x's type unless out says
// otherwise.
Tensor linear(Context& context, const Tensor& x, const Tensor& weight, const Tensor& bias);
Tensor linear(Context& context, const Tensor& x, const Tensor& weight, const Tensor& bias, DType out,
              bool steady = false);

struct BiasGradArgs {
  In dy;        // [rows, n]
  InOut dbias;  // [n] fp32, bf16 (fp64)
  const int64_t* accumulate;
  auto operands() { return std::tie(dy, dbias); }
};
inline constinit KernelSlot<BiasGradArgs> kBiasGrad{"bias_grad"};

}  // namespace flagscale::op
