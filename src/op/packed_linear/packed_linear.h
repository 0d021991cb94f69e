#pragma once
// Products of serving: the weight lies packed once in memory (packing.h), and the same panels serve one row
// or many. Each output is summed along k in an order that depends on the weight alone, so a row's result is
// bitwise the same alone and in any batch.

#include <cstdint>
#include <tuple>
#include <vector>

#include "autograd/context.h"
#include "op/packed_linear/packing.h"

namespace flagscale::op {

// How a product is formed.
//   kExact  weights widened to fp32 in the kernel, fp32 sums along k in order
//   kBF16   of bf16 weights: activations rounded to bf16 where the processor multiplies pairs of them; other
//           weights: as kExact
//   kInt8   of integer weights: activations quantised by token and group of 32 but for outliers, integer sums
//           in a group, groups combined in fp32 in order; other weights: as kExact
//   kFast   of each weight what is fastest, kInt8 or kBF16, where its format stays near exact products
//           (fast_formats.h); else as kExact
enum class Compute : uint8_t { kExact, kBF16, kInt8, kFast };
const char* name(Compute compute);
Compute parse_compute(std::string_view name);  // throws Error naming the known ones
// What becomes of `wanted` for weights in a format: kExact, kBF16 or kInt8.
Compute compute_for(Packing packing, Compute wanted);

// Rows of a weight that lie in one format.
struct PackedSegment {
  Packing packing;
  int64_t rows;  // of each group
  Tensor data;   // PackedWeight::shape_of()
};

// A weight [groups * out, in]: in each group (expert) its segments' rows one after another. A segment's
// groups lie one after another, each in panels of its own.
struct PackedWeight {
  std::vector<PackedSegment> segments;
  int64_t in = 0;
  Compute compute = Compute::kExact;
  int64_t groups = 1;
  bool defined() const { return !segments.empty(); }
  int64_t out() const;  // of a group
  size_t bytes() const;
  Shape shape_of(const PackedSegment& segment) const;
};

struct PackedLinearArgs {
  In x;       // [rows, in] fp32
  In packed;  // packed_shape(packing, out, in)
  In bias;    // [out] fp32 or undefined
  Out y;      // [rows, out] fp32, row-strided
  Packing packing;
  bool narrow = false;  // x may be rounded to bf16
  In counts{};          // [groups] int32: rows of x of each group, one after another; undefined: one group
  auto operands() { return std::tie(x, packed, bias, y, counts); }
};
inline constinit KernelSlot<PackedLinearArgs> kPackedLinear{"packed_linear"};  // floating formats
inline constinit KernelSlot<PackedLinearArgs> kPackedLinearExact{
    "packed_linear_exact"};  // integer formats, widened
inline constinit KernelSlot<PackedLinearArgs> kPackedLinearInt8{"packed_linear_int8"};  // integer formats

Tensor packed_linear(Context& context, const Tensor& x, const PackedWeight& weight, const Tensor& bias);

// Each row times the weight of its group: x [tokens, top_k, in] sorted by group, counts [groups] int32
// -> [tokens, top_k, out]. A row's result is bitwise that of packed_linear with its group's weight.
Tensor packed_grouped(Context& context, const Tensor& x, const Tensor& counts, const PackedWeight& weight);

struct PackedRowsArgs {
  In ids;     // [tokens] int32; outside the table: row 0
  In packed;  // packed_shape(packing, vocab, in)
  Out y;      // [tokens, in] fp32
  Packing packing;
  int64_t vocab;
  auto operands() { return std::tie(ids, packed, y); }
};
inline constinit KernelSlot<PackedRowsArgs> kPackedRows{"packed_rows"};

// Rows of a packed table: an embedding tied to the output head needs no second copy.
Tensor packed_rows(Context& context, const Tensor& ids, const PackedWeight& table);

}  // namespace flagscale::op
