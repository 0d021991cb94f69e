#pragma once
// Weights of eight bits an element and a scale a row, for a GPU. What such a weight stands for is a weight of
// bf16: an element is scale * q, rounded to bf16 once, and products are those of that weight, to the bit.

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace flagscale::op {

// kFp8: q is an e4m3 number (OCP 8-bit floating point, largest 448). kInt8: a whole number, -127 to 127.
// kFp8Rows: an e4m3 number that is multiplied as it is, by e4m3 numbers (op/fp8_linear).
enum class Narrow : uint8_t { kFp8, kInt8, kFp8Rows };
const char* name(Narrow format);

// To nearest, ties to even; magnitudes are at most 448.
uint8_t to_e4m3(float x);
float from_e4m3(uint8_t q);

// A panel is kPanelRows rows; along k it is a run of tiles of kTileColumns, 16 bytes for each lane of a warp:
// what it holds of two left factors of mma.m16n8k16, so that one load brings it. Lane l has rows l / 4 and
// l / 4 + 8 and columns 2 (l % 4) + {0, 1, 8, 9} of the first 16, four bytes a row, then of the other 16.
// kInt8 is stored as q + 128. kFp8Rows: a panel is its rows, one after the other, each to a multiple
// of 128 bytes.
constexpr int64_t kPanelRows = 16, kTileColumns = 32, kTileBytes = kPanelRows * kTileColumns;

struct NarrowWeight {
  Narrow format = Narrow::kFp8;
  Tensor data;    // [panels, panel_bytes] uint8; what is no element of the weight is 0
  Tensor scales;  // [out] bf16
  int64_t in = 0;
  bool defined() const { return data.defined(); }
  size_t bytes() const { return data.bytes() + scales.bytes(); }
};

// Throws Error{kInvalidArgument} where the product y = x W^T + bias of op `op` is not one of bf16 and this
// weight, in rows of fp8 or not.
void check_product(const char* op, const Tensor& x, const NarrowWeight& weight, const Tensor& bias,
                   bool rows);

Shape narrow_shape(Narrow format, int64_t out, int64_t in);  // of data

// Row `row` of a panel, by its largest magnitude. Error{kInvalidArgument} where a value is not a number or
// too large.
void narrow_row(Narrow format, std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                BF16& scale);
// What the row stands for.
void widen_row(Narrow format, std::span<const uint8_t> panel, int64_t row, BF16 scale,
               std::span<BF16> values);

}  // namespace flagscale::op
