#pragma once
// Products of a mixture's experts in one launch: the rows of x lie sorted by expert, counts[e] of them for
// expert e, and each expert has rows of its own in the weight. No row is padded; work is cut by the counts,
// and the order of each sum depends on its length and type alone, as in op/matmul.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

// With E experts, R rows [.., n] seen as [R, n]:
//   out: out[rows of e] = a[rows of e] b_e, or a[rows of e] b_e^T with trans_b; b_e: rows e/E to (e+1)/E of b
//   into: as out, into[rows of e] (+)= ...
//   sum: sum_e (+)= a[rows of e]^T b[rows of e]
struct GroupedMatmulArgs {
  In a, b, counts;
  Out out;
  InOut sum;  // fp32, bf16 (fp64), rounded once; exactly one of the three is defined
  bool trans_b = false;
  const int64_t* accumulate = nullptr;  // sum, into: null or not 0 adds, 0 overwrites
  InOut into{};                         // fp32 (fp64)
  auto operands() { return std::tie(a, b, counts, out, sum, into); }
};
inline constinit KernelSlot<GroupedMatmulArgs> kGroupedMatmul{"grouped_matmul"};

// Records one with its cost.
void launch_grouped(Recorder& recorder, const GroupedMatmulArgs& args);

// Gives x the gradient dy weight.
void give_grouped(Backward& backward, const Tensor& dy, const Tensor& counts, const Tensor& weight,
                  const Tensor& x);

// y[rows of e] = x[rows of e] W_e^T: x [tokens, top_k, in], weight [experts * out, in], counts [experts]
// int32
// -> [tokens, top_k, out].
Tensor grouped_linear(Context& context, const Tensor& x, const Tensor& counts, const Tensor& weight);

}  // namespace flagscale::op
