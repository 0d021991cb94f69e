#pragma once
// Weights of eight or four bits an element, for a GPU. What such a weight stands for is a weight of bf16: an
// element is scale * q, rounded to bf16 once, and products are those of that weight, to the bit.

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace flagscale::op {

// kFp8: q is an e4m3 number (OCP 8-bit floating point, largest 448). kInt8: a whole number, -127 to 127; both
// have a scale of bf16 a row. kFp8Rows: an e4m3 number that is multiplied as it is, by e4m3 numbers
// (op/fp8_linear). kInt4, kInt4By32: a whole number, -8 to 7, and a scale of fp16 for 128 or 32 neighbours of
// a row: the numbers and scales of op/packed_linear's kInt4 and kQ4_0. kFp8Blocks: an e4m3 number and a scale
// of fp32 for 128 neighbours of the rows of a panel, as files have them; the product is rounded to fp32, then
// to bf16.
enum class Narrow : uint8_t { kFp8, kInt8, kFp8Rows, kInt4, kInt4By32, kFp8Blocks };
const char* name(Narrow format);

// To nearest, ties to even; magnitudes are at most 448.
uint8_t to_e4m3(float x);
float from_e4m3(uint8_t q);

// A panel is kPanelRows rows; along k it is a run of tiles of tile_columns(), 16 bytes for each lane of a
// warp: what it holds of two (four bits: four) left factors of mma.m16n8k16, so that one load brings it. Lane
// l has rows l / 4 and l / 4 + 8 and columns 2 (l % 4) + {0, 1, 8, 9} of the first 16, four bytes a row, then
// of the other 16. kInt8 is stored as q + 128. In four bits four bytes of a row are its columns of 32: those
// before and after 8 of the first 16 and of the others in the low half's four numbers, the column after each
// in the high half's; negative ones as two's complement. kFp8Rows: a panel is its rows, one after the other,
// each to a multiple of 128 bytes.
constexpr int64_t kPanelRows = 16, kTileBytes = 512;
constexpr int64_t tile_columns(Narrow format) {
  return format == Narrow::kInt4 || format == Narrow::kInt4By32 ? 64 : 32;
}
// Neighbours of a row that share a scale; 0: all.
constexpr int64_t columns_of_scale(Narrow format) {
  return format == Narrow::kInt4 || format == Narrow::kFp8Blocks ? 128 : format == Narrow::kInt4By32 ? 32 : 0;
}

// What is no element of the weight, or its scale, is 0.
struct NarrowWeight {
  Narrow format = Narrow::kFp8;
  Tensor data;  // [panels, panel_bytes] uint8
  // [out] bf16, or [panels, groups * kPanelRows] fp16, in a group those of rows r and r + 8 in turn; or
  // [panels, groups * 8] fp32, a group's eight alike
  Tensor scales;
  int64_t in = 0, out = 0;
  bool defined() const { return data.defined(); }
  size_t bytes() const { return data.bytes() + scales.bytes(); }
};

// Throws Error{kInvalidArgument} where the product y = x W^T + bias of op `op` is not one of bf16 and this
// weight, in rows of fp8 or not.
void check_product(const char* op, const Tensor& x, const NarrowWeight& weight, const Tensor& bias,
                   bool rows);

// Of data and scales.
Shape narrow_shape(Narrow format, int64_t out, int64_t in);
Shape narrow_scales(Narrow format, int64_t out, int64_t in);
DType scale_type(Narrow format);
int64_t scales_of_panel(Narrow format, int64_t in);  // how far apart two panels' are, in 16 bits

// Row `row` of a panel, by the largest magnitude of each run that shares a scale. scales: the panel's, as
// bits. Error{kInvalidArgument} where a value is not a number or too large.
void narrow_row(Narrow format, std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                uint16_t* scales);
// kFp8Blocks: a row as it is, e4m3 numbers and the scales of its blocks. Error{kInvalidArgument} for no
// number and a scale of 128 or more.
void place_fp8_row(std::span<const uint8_t> q, std::span<const float> block_scales, int64_t row,
                   std::span<uint8_t> panel, uint16_t* scales);
// What the row stands for.
void widen_row(Narrow format, std::span<const uint8_t> panel, int64_t row, const uint16_t* scales,
               std::span<BF16> values);

}  // namespace flagscale::op
