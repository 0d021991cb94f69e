#pragma once
// Single blocks and rows on their way into a panel. For packing.cc; layouts are in packing.h.

#include "op/packed_linear/packing.h"

namespace flagscale::op {

// A block of one row of a GGUF file, to output n of a panel's block.
void pack_block(Packing packing, const uint8_t* source, std::byte* block, int64_t n);

// Quantises a row: kInt8, scale = largest magnitude / 127; 4 bits, 16 values around a zero of 8, a scale a
// block.
void quantise_row8(std::byte* panel, int64_t n, std::span<const float> values);
void quantise_row4(std::byte* panel, int64_t n, const PackingInfo& format, std::span<const float> values);
// A block's scale; q: its numbers, 0 to 15.
F16 quantise_group4(std::span<const float> values, uint8_t* q);

}  // namespace flagscale::op
