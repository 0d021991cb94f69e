#pragma once
// Low-rank additions to a product (Hu et al., "LoRA", 2021): y += scale B A x, where each row of x names its
// adapter. Several adapters lie in one pair of tensors, a slot each: serving mixes them in a batch, training
// is one slot that every row names. A slot is a row, which may be strided, so that all that an adapter has in
// a model lies together.
//
// A row's result is bitwise the same whatever runs beside it: each sum is formed in an order that depends on
// the shapes alone. A slot whose B is zero adds zero.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

constexpr int64_t kMaxLoraRank = 512;

struct LoraArgs {
  In x;       // [rows, in] fp32, row-strided
  In slots;   // [rows] int32; negative: no adapter
  In a;       // [slots, rank * in] fp32
  In b;       // [slots, rank * out] fp32: B transposed
  In ranks;   // [slots] int32: rows of a and b in use; 0: this product has no addition
  In scales;  // [slots] fp32
  InOut y;    // [rows, out] fp32, row-strided
  auto operands() { return std::tie(x, slots, a, b, ranks, scales, y); }
};
inline constinit KernelSlot<LoraArgs> kLora{"lora"};

// Adds to y, in place. No gradient so far.
void lora(Context& context, const Tensor& x, const Tensor& slots, const Tensor& a, const Tensor& b,
          const Tensor& ranks, const Tensor& scales, const Tensor& y);

}  // namespace flagscale::op
