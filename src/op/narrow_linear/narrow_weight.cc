#include "op/narrow_linear/narrow_weight.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"

namespace flagscale::op {

namespace {

constexpr float kLargestFp8 = 448, kLargestInt8 = 127;
constexpr float kLeastScale = 0x1p-100f;  // 256 times it, and 2^120 times the largest, are numbers of bf16
constexpr float kMostScale = 0x1p7f;

// Where element k of a panel's row lies.
size_t place_of(Narrow format, int64_t row, int64_t k, size_t panel_bytes) {
  if (format == Narrow::kFp8Rows)
    return static_cast<size_t>(row) * (panel_bytes / kPanelRows) + static_cast<size_t>(k);
  const int64_t in_tile = k % kTileColumns, of_factor = in_tile % 16, pair = of_factor % 8;
  const int64_t lane = row % 8 * 4 + pair / 2, word = in_tile / 16 * 2 + row / 8;
  return static_cast<size_t>(k / kTileColumns * kTileBytes + lane * 16 + word * 4 + of_factor / 8 * 2 +
                             pair % 2);
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

const char* name(Narrow format) { return format == Narrow::kInt8 ? "int8" : "fp8"; }

void check_product(const char* op, const Tensor& x, const NarrowWeight& weight, const Tensor& bias,
                   bool rows) {
  const int64_t out = weight.scales.dim(0);
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
  const int64_t multiple = format == Narrow::kFp8Rows ? 128 : kTileColumns;
  return {(out + kPanelRows - 1) / kPanelRows, (in + multiple - 1) / multiple * multiple * kPanelRows};
}

void narrow_row(Narrow format, std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                BF16& scale) {
  float largest = 0, sum = 0;  // a NaN shows in the sum
  for (const float x : values) largest = std::max(largest, std::fabs(x)), sum += x * 0.f;
  const float wanted = largest / (format == Narrow::kInt8 ? kLargestInt8 : kLargestFp8);
  if (sum != 0 || wanted > kMostScale)
    fail(ErrorKind::kInvalidArgument, "a weight is {}, which {} does not hold",
         sum != 0 ? "not a number" : "too large", name(format));
  scale = rounded_up(std::max(wanted, kLeastScale));
  const float inverse = 1 / to_float(scale);
  for (size_t k = 0; k < values.size(); ++k) {
    const float q = values[k] * inverse;
    panel[place_of(format, row, static_cast<int64_t>(k), panel.size())] =
        format == Narrow::kInt8
            ? static_cast<uint8_t>(std::lrint(std::clamp(q, -kLargestInt8, kLargestInt8)) + 128)
            : to_e4m3(std::clamp(q, -kLargestFp8, kLargestFp8));
  }
}

void widen_row(Narrow format, std::span<const uint8_t> panel, int64_t row, BF16 scale,
               std::span<BF16> values) {
  for (size_t k = 0; k < values.size(); ++k) {
    const uint8_t q = panel[place_of(format, row, static_cast<int64_t>(k), panel.size())];
    values[k] =
        to_bf16(to_float(scale) * (format == Narrow::kInt8 ? static_cast<float>(q) - 128 : from_e4m3(q)));
  }
}

}  // namespace flagscale::op
