#pragma once
// A frozen linear with its adapter in training, on the CPU: y = x W^T + bias + B h with h = scale A x. B h is
// added where the product's sums end, and in backward (scale dy B) A where those of dy W do, so an adapter
// costs no further pass over y or dx. The products that a rank makes thin have kernels of their own, which
// read x and dy where they lie.

#include <tuple>

#include "op/lora/lora.h"
#include "op/matmul/matmul.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::op {

constexpr int kMostAdditions = 3;  // q, k and v of a fused product

// out = scale * x w^T, or scale * x w where `across`.
struct ThinMatmulArgs {
  In x;     // [rows, k]
  In w;     // [n, k], or across [k, n], of x's type; n is small
  Out out;  // [rows, n] of x's type
  float scale;
  bool across;
  auto operands() { return std::tie(x, w, out); }
};
inline constinit KernelSlot<ThinMatmulArgs> kThinMatmul{"thin_matmul"};

// sum (+)= thin^T wide, or (thin^T wide)^T where `transposed`.
struct ThinGradientArgs {
  In thin, wide;  // [rows, n] and [rows, m] of one type; n is small
  InOut sum;      // [n, m], or transposed [m, n], fp32 (fp64)
  bool transposed;
  const int64_t* accumulate;  // null or not 0 adds, 0 overwrites
  auto operands() { return std::tie(thin, wide, sum); }
};
inline constinit KernelSlot<ThinGradientArgs> kThinGradient{"thin_gradient"};

// A product of op/matmul whose columns [first[i], first[i] + those of up[i]) have low_i up_i^T added, where
// low_i are `rank` columns of low; or low_i up_i where `across`. trans_a is false.
struct AdaptedMatmulArgs : MatmulArgs {
  In low;                 // [m, additions * rank] of a's type
  In up[kMostAdditions];  // [columns, rank], or across [rank, columns], of a's type; or undefined
  int64_t first[kMostAdditions] =
      {};  // may lie outside of the product, in part too: pieces of a packed weight
  bool across = false;
  int64_t rank() const { return up[0].dims[across ? 0 : 1]; }
  auto operands() { return std::tie(a, b, out, sum, bias, low, up[0], up[1], up[2]); }
};
inline constinit KernelSlot<AdaptedMatmulArgs> kAdaptedMatmul{"adapted_matmul"};

// What linear() or unpacked_linear() and train_lora() give, for at most kMostAdditions targets without
// dropout: weight [out, in] of x's type, or `packed`.
Tensor adapted_linear(Context& context, const Tensor& x, const Tensor& weight, const PackedWeight& packed,
                      const Tensor& bias, const Tensor& a, const std::vector<LoraTarget>& targets,
                      const LoraTraining& training);

}  // namespace flagscale::op
