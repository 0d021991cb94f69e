#pragma once
// Products of serving: the weight lies packed once in memory, in panels of kPanel outputs, and the same panels serve one
// row or many. Each output is summed along k in order, so a row's result is the same alone and in any batch.
//
//   packed[n / kPanel][k][n % kPanel], zeros past the last output

#include <cstdint>
#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

constexpr int64_t kPanel = 32;

// The shape of a packed weight of [out, in]: [panels, in, kPanel], fp32 or bf16.
Shape packed_shape(int64_t out, int64_t in);

// Packs rows [first, first + count) of a weight, given as fp32 or in packed's own type, row by row.
void pack_rows(const Tensor& packed, int64_t first, int64_t count, const float* rows);
void pack_rows(const Tensor& packed, int64_t first, int64_t count, const BF16* rows);

struct PackedLinearArgs {
  In x;       // [rows, in] fp32
  In packed;  // [panels, in, kPanel]
  In bias;    // [out] fp32 or undefined
  Out y;      // [rows, out] fp32
  auto operands() { return std::tie(x, packed, bias, y); }
};
inline constinit KernelSlot<PackedLinearArgs> kPackedLinear{"packed_linear"};

Tensor packed_linear(Context& context, const Tensor& x, const Tensor& packed, int64_t out, const Tensor& bias);

struct PackedRowsArgs {
  In ids;     // [tokens] int32; outside the table: row 0
  In packed;  // [panels, in, kPanel]
  Out y;      // [tokens, in] fp32
  int64_t vocab;
  auto operands() { return std::tie(ids, packed, y); }
};
inline constinit KernelSlot<PackedRowsArgs> kPackedRows{"packed_rows"};

// Rows of a packed table: an embedding tied to the output head needs no second copy.
Tensor packed_rows(Context& context, const Tensor& ids, const Tensor& packed, int64_t vocab);

}  // namespace flagscale::op
