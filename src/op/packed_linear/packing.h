#pragma once
// How a packed weight lies in memory. A panel holds kPanel outputs; along k it is a run of blocks, whatever
// the format:
//
//   panel = head, then for each block of `block` elements along k: scales of all outputs, then their elements
//
// Integer elements come in groups of 32 along k; a group is 8 steps of 4, and a step is [kPanel][4] bytes, so
// that one load is 4 neighbours of k for 16 outputs, which is what vpdpbusd multiplies. Fewer than 8 bits:
//   low   [4][kPanel][4]  bits 0-3 of step s in the low half of byte line s (s < 4), in the high half of line
//   s - 4 high  bit 4 of step s in bit s of [kPanel][4]; or bits 4, 5 of step s in bits 2(s%4).. of line s/4
//   of [2][kPanel][4]
// A group's high bits lie before its low ones. Elements are unsigned; the format's zero point is subtracted.
//
// The value of an element, in fp32: scale * (q - zero), or scale * q + offset rounded once. For GGUF's
// formats these are ggml's values to the bit: products of scales are exact.

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/tensor.h"

namespace flagscale::op {

constexpr int64_t kPanel = 32;
constexpr int64_t kGroup = 32;  // elements along k that share one scale of the activations

enum class Packing : uint8_t {
  kF32,
  kBF16,
  kF16,
  kInt8,
  kInt4,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K
};
constexpr int kNumPackings = 13;

struct PackingInfo {
  const char* name;
  int64_t block;         // elements along k; k is filled up with zeros to whole blocks
  int64_t block_bytes;   // of a panel's block
  int64_t head_bytes;    // of a panel
  int bits;              // of an integer element; 0: floating
  int64_t source_bytes;  // of a block of one row in a GGUF file; 0: made from fp32 rows alone
};
const PackingInfo& info(Packing packing);
Packing parse_packing(std::string_view name);  // throws Error naming the known ones

int64_t panels_of(int64_t out);
int64_t panel_bytes(Packing packing, int64_t in);
Shape packed_shape(Packing packing, int64_t out, int64_t in);  // [panels, panel_bytes] of kU8

// Packs one row of a weight [out, in]. Memory of rows that are never packed must be zero.
// From fp32: rounded to bf16 or f16, or quantised (kInt8: one scale a row; kInt4: a scale for 128, kQ4_0: for
// 32).
void pack_row(const Tensor& packed, Packing packing, int64_t row, std::span<const float> values);
// As it lies in a file: BF16 and F16 elements, or GGUF blocks of the same name.
void pack_row(const Tensor& packed, Packing packing, int64_t row, int64_t in,
              std::span<const std::byte> stored);

}  // namespace flagscale::op
