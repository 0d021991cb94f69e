#pragma once
// Products of training with a frozen weight that stays packed (packing.h): rows of it are unpacked, at most
// kUnpackedRows at a time, into a small dense piece, and op/matmul multiplies that. So the weight has a
// gradient for its input, products run as fast as dense ones, and no dense copy of a whole weight exists. The
// values are those of the format in fp32, to the bit, rounded where the piece is bf16.

#include <functional>
#include <tuple>

#include "autograd/context.h"
#include "op/matmul/matmul.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::op {

constexpr int64_t kUnpackedRows = 768;  // op/matmul's depth of a block

struct UnpackArgs {
  In packed;  // PackedWeight::shape_of()
  Out out;  // [groups * in, rows], row-strided, fp32, bf16 or fp64: rows [first, first + rows) of each group,
            // transposed
  Packing packing;
  int64_t first;  // a multiple of kPanel
  int64_t groups = 1;
  auto operands() { return std::tie(packed, out); }
};
inline constinit KernelSlot<UnpackArgs> kUnpack{"unpack"};

// y = x W^T + bias: x [rows, in] of any float type, y of x's type or `out`; with a tape, x's gradient.
Tensor unpacked_linear(Context& context, const Tensor& x, const PackedWeight& weight, const Tensor& bias,
                       DType out);

// Its two halves, for who forms gradients itself: y = x W^T + bias; dx = dy W, or dx += dy W in fp32.
// product: launches that of a piece, whose first output is `first` of the weight's.
using PieceProduct = std::function<void(Recorder&, const MatmulArgs&, int64_t first)>;
void launch_unpacked(Recorder& recorder, const Tensor& x, const PackedWeight& weight, const Tensor& bias,
                     const Tensor& y, const PieceProduct& product = {});
void launch_unpacked_gradient(Recorder& recorder, const Tensor& dy, const PackedWeight& weight,
                              const Tensor& dx, bool adds = false, const PieceProduct& product = {});

// Each row times the weight of its group, as op::grouped_linear: x [tokens, top_k, in] sorted by group,
// counts [groups] int32 -> [tokens, top_k, out]. A piece has rows of all groups.
Tensor unpacked_grouped(Context& context, const Tensor& x, const Tensor& counts, const PackedWeight& weight);

}  // namespace flagscale::op
