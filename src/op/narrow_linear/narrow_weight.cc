#include "op/narrow_linear/narrow_weight.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "op/packed_linear/packing_blocks.h"

namespace flagscale::op {

namespace {

constexpr float kLargestFp8 = 448, kLargestInt8 = 127;
constexpr float kLeastScale = 0x1p-100f;  // 256 times it, and 2^120 times the largest, are numbers of bf16
constexpr float kMostScale = 0x1p7f;

bool has_nibbles(Narrow format) { return format == Narrow::kInt4 || format == Narrow::kInt4By32; }

// Where element k of a panel's row lies.
size_t place_of(Narrow format, int64_t row, int64_t k, size_t panel_bytes) {
  if (format == Narrow::kFp8Rows)
    return static_cast<size_t>(row) * (panel_bytes / kPanelRows) + static_cast<size_t>(k);
  const int64_t columns = tile_columns(format), in_tile = k % columns, of_factor = in_tile % 16,
                pair = of_factor % 8, lane = row % 8 * 4 + pair / 2;
  const int64_t tile = k / columns * kTileBytes + lane * 16;
  if (!has_nibbles(format))
    return static_cast<size_t>(tile + (in_tile / 16 * 2 + row / 8) * 4 + of_factor / 8 * 2 + pair % 2);
  return static_cast<size_t>(tile + (in_tile / 32 * 2 + row / 8) * 4 + pair % 2 * 2 + in_tile / 16 % 2);
}
// Four bits: in which half of the byte.
int half_of(int64_t k) { return static_cast<int>(k / 8 % 2 * 4); }

// Where a row's scale of element k lies.
int64_t scale_of(Narrow format, int64_t row, int64_t k) {
  const int64_t columns = columns_of_scale(format);
  if (format == Narrow::kFp8Blocks) return k / columns * kPanelRows + row % 8 * 2;  // of two halves
  return columns == 0 ? row : k / columns * kPanelRows + row % 8 * 2 + row / 8;
}

BF16 rounded_up(float x) {  // x > 0
  const BF16 near = to_bf16(x);
  return to_float(near) >= x ? near : BF16{static_cast<uint16_t>(near.bits + 1)};
}

}  // namespace

uint8_t to_e4m3(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffffu;
  // Below 2^-6 steps are 2^-9: adding 2^14 leaves their number in the last bits.
  const float small = std::bit_cast<float>(magnitude) + 0x1p14f;
  const uint32_t below = std::bit_cast<uint32_t>(small) - std::bit_cast<uint32_t>(0x1p14f);
  const uint32_t above = (magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20;
  return static_cast<uint8_t>(sign | (magnitude < 0x3c800000u ? below : above - (120u << 3)));
}

float from_e4m3(uint8_t q) {
  const int exponent = q >> 3 & 15, mantissa = q & 7;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return q & 0x80 ? -magnitude : magnitude;
}

const char* name(Narrow format) {
  switch (format) {
    case Narrow::kInt8:
      return "int8";
    case Narrow::kInt4:
      return "int4";
    case Narrow::kInt4By32:
      return "int4-32";
    case Narrow::kFp8Blocks:
      return "fp8 blocks";
    default:
      return "fp8";
  }
}

void check_product(const char* op, const Tensor& x, const NarrowWeight& weight, const Tensor& bias,
                   bool rows) {
  const int64_t out = weight.out;
  if ((weight.format == Narrow::kFp8Rows) == rows && x.shape().rank() == 2 && x.dim(1) == weight.in &&
      x.dtype() == DType::kBF16 &&
      (!bias.defined() || (bias.shape() == Shape{out} && bias.dtype() == DType::kBF16)))
    return;
  fail(ErrorKind::kInvalidArgument,
       "[{}] x is {} {}, weight [{}, {}]{}, bias {}: bf16 is expected, and a weight that is {}in rows of fp8",
       op, name(x.dtype()), x.shape().str(), out, weight.in,
       weight.format == Narrow::kFp8Rows ? " in rows of fp8" : "",
       bias.defined() ? bias.shape().str() : "absent", rows ? "" : "not ");
}

Shape narrow_shape(Narrow format, int64_t out, int64_t in) {
  const int64_t panels = (out + kPanelRows - 1) / kPanelRows;
  if (format == Narrow::kFp8Rows) return {panels, (in + 127) / 128 * 128 * kPanelRows};
  return {panels, (in + tile_columns(format) - 1) / tile_columns(format) * kTileBytes};
}

int64_t scales_of_panel(Narrow format, int64_t in) {
  const int64_t columns = columns_of_scale(format), tile = tile_columns(format);
  if (columns == 0) return kPanelRows;
  return ((in + tile - 1) / tile * tile + columns - 1) / columns * kPanelRows;
}

Shape narrow_scales(Narrow format, int64_t out, int64_t in) {
  if (columns_of_scale(format) == 0) return {out};
  return {(out + kPanelRows - 1) / kPanelRows,
          scales_of_panel(format, in) / (format == Narrow::kFp8Blocks ? 2 : 1)};
}

DType scale_type(Narrow format) {
  if (format == Narrow::kFp8Blocks) return DType::kF32;
  return columns_of_scale(format) == 0 ? DType::kBF16 : DType::kF16;
}

namespace {

[[noreturn]] void refuse(Narrow format, bool number) {
  fail(ErrorKind::kInvalidArgument, "a weight is {}, which {} does not hold",
       number ? "too large" : "not a number", name(format));
}

// Eight bits: the row has one scale.
void narrow_bytes(Narrow format, std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                  uint16_t* scales) {
  float largest = 0, sum = 0;  // a NaN shows in the sum
  for (const float x : values) largest = std::max(largest, std::fabs(x)), sum += x * 0.f;
  const float wanted = largest / (format == Narrow::kInt8 ? kLargestInt8 : kLargestFp8);
  if (sum != 0 || wanted > kMostScale) refuse(format, sum == 0);
  const BF16 scale = rounded_up(std::max(wanted, kLeastScale));
  scales[row] = scale.bits;
  const float inverse = 1 / to_float(scale);
  for (size_t k = 0; k < values.size(); ++k) {
    const float q = values[k] * inverse;
    panel[place_of(format, row, static_cast<int64_t>(k), panel.size())] =
        format == Narrow::kInt8
            ? static_cast<uint8_t>(std::lrint(std::clamp(q, -kLargestInt8, kLargestInt8)) + 128)
            : to_e4m3(std::clamp(q, -kLargestFp8, kLargestFp8));
  }
}

void narrow_nibbles(Narrow format, std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                    uint16_t* scales) {
  const int64_t columns = columns_of_scale(format), in = std::ssize(values);
  uint8_t q[128];
  for (int64_t first = 0; first < in; first += columns) {
    const int64_t count = std::min(columns, in - first);
    const float* x = values.data() + first;
    float sum = 0;  // a NaN shows in it
    for (int64_t i = 0; i < count; ++i) sum += x[i] * 0.f;
    if (sum != 0) refuse(format, false);
    const F16 scale = quantise_group4({x, static_cast<size_t>(count)}, q);
    if (!std::isfinite(to_float(scale))) refuse(format, true);
    scales[scale_of(format, row, first)] = scale.bits;
    for (int64_t k = first; k < first + count; ++k) {
      uint8_t& to = panel[place_of(format, row, k, panel.size())];
      to = static_cast<uint8_t>((to & (0xf0 >> half_of(k))) | (q[k - first] ^ 8) << half_of(k));
    }
  }
}

}  // namespace

void narrow_row(Narrow format, std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                uint16_t* scales) {
  (columns_of_scale(format) == 0 ? narrow_bytes : narrow_nibbles)(format, values, row, panel, scales);
}

void place_fp8_row(std::span<const uint8_t> q, std::span<const float> block_scales, int64_t row,
                   std::span<uint8_t> panel, uint16_t* scales) {
  constexpr Narrow kFormat = Narrow::kFp8Blocks;
  const int64_t columns = columns_of_scale(kFormat);
  for (int64_t k = 0; k < std::ssize(q); ++k) {
    const uint8_t own = q[static_cast<size_t>(k)];
    if ((own & 0x7f) == 0x7f) refuse(kFormat, false);
    panel[place_of(kFormat, row, k, panel.size())] = own;
    if (k % columns != 0) continue;
    const float scale = block_scales[static_cast<size_t>(k / columns)];
    if (!(std::fabs(scale) < kMostScale)) refuse(kFormat, !std::isnan(scale));
    std::memcpy(scales + scale_of(kFormat, row, k), &scale, sizeof scale);
  }
}

void widen_row(Narrow format, std::span<const uint8_t> panel, int64_t row, const uint16_t* scales,
               std::span<BF16> values) {
  const bool nibbles = has_nibbles(format);
  for (int64_t k = 0; k < std::ssize(values); ++k) {
    const uint8_t q = panel[place_of(format, row, k, panel.size())];
    if (format == Narrow::kFp8Blocks) {
      float scale = 0;
      std::memcpy(&scale, scales + scale_of(format, row, k), sizeof scale);
      values[static_cast<size_t>(k)] = to_bf16(scale * from_e4m3(q));
      continue;
    }
    const uint16_t bits = scales[scale_of(format, row, k)];
    const float scale = nibbles ? to_float(F16{bits}) : to_float(BF16{bits});
    const float number = nibbles                   ? static_cast<float>(((q >> half_of(k) & 15) ^ 8) - 8)
                         : format == Narrow::kInt8 ? static_cast<float>(q) - 128
                                                   : from_e4m3(q);
    values[static_cast<size_t>(k)] = to_bf16(scale * number);
  }
}

}  // namespace flagscale::op
