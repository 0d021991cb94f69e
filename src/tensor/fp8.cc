#include "tensor/fp8.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace flagscale {

namespace {

struct Layout {
  int mantissa, bias;  // bits; of the exponent
  float largest;
};
constexpr Layout kE4M3{3, 7, 448}, kE5M2{2, 15, 57344};

constexpr const Layout& layout_of(Fp8 format) { return format == Fp8::kE4M3 ? kE4M3 : kE5M2; }

float value_of(Fp8 format, int magnitude) {
  const Layout& l = layout_of(format);
  const int exponent = magnitude >> l.mantissa, mantissa = magnitude & ((1 << l.mantissa) - 1);
  if (format == Fp8::kE4M3 ? magnitude == 0x7f : magnitude > 0x7c)
    return std::numeric_limits<float>::quiet_NaN();
  if (format == Fp8::kE5M2 && magnitude == 0x7c) return std::numeric_limits<float>::infinity();
  const int first = exponent == 0 ? 0 : 1 << l.mantissa;
  return std::ldexp(static_cast<float>(first + mantissa), std::max(exponent, 1) - l.bias - l.mantissa);
}

using Values = std::array<std::array<float, 256>, 2>;
Values all_values() {
  Values values{};
  for (const Fp8 format : {Fp8::kE4M3, Fp8::kE5M2})
    for (int q = 0; q < 256; ++q)
      values[static_cast<size_t>(format)][static_cast<size_t>(q)] =
          std::copysign(value_of(format, q & 0x7f), q < 128 ? 1.f : -1.f);
  return values;
}

}  // namespace

const char* name(Fp8 format) { return format == Fp8::kE4M3 ? "e4m3" : "e5m2"; }

float largest(Fp8 format) { return layout_of(format).largest; }

uint8_t to_fp8(Fp8 format, float x) {
  if (std::isnan(x)) return 0x7f;
  const Layout& l = layout_of(format);
  const float magnitude = std::min(std::fabs(x), l.largest);
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude), sign = std::signbit(x) ? 0x80u : 0u;
  const int dropped = 23 - l.mantissa;
  const auto lowest = static_cast<uint32_t>(128 - l.bias) << 23;  // the smallest normal number's bits
  const uint32_t small = static_cast<uint32_t>(
                     std::nearbyint(std::ldexp(std::min(magnitude, 1.f), l.bias - 1 + l.mantissa))),
                 normal = ((bits + (1u << (dropped - 1)) - 1 + (bits >> dropped & 1)) >> dropped) -
                          (static_cast<uint32_t>(127 - l.bias) << l.mantissa);
  return static_cast<uint8_t>(sign | (bits < lowest ? small : normal));
}

const float* fp8_values(Fp8 format) {
  static const Values values = all_values();
  return values[static_cast<size_t>(format)].data();
}

float from_fp8(Fp8 format, uint8_t q) { return fp8_values(format)[q]; }

float fp8_factor(Fp8 format, Fp8Scales scales, float magnitude) {
  if (magnitude == 0 || !std::isfinite(magnitude)) return 1;
  const float factor = std::min(largest(format) / magnitude, std::numeric_limits<float>::max());
  if (scales == Fp8Scales::kTensor) return factor;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(factor) & 0x7f800000u);
}

}  // namespace flagscale
