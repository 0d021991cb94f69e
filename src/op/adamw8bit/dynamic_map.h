#pragma once
// The 256 numbers that an 8-bit state can be (Dettmers' dynamic data type, as bitsandbytes'
// create_dynamic_map), relative to the largest of its block: seven decades, the higher ones cut finer.

#include <bit>
#include <cstdint>

namespace flagscale::op {

// Ascending magnitudes from 0 to 1 and what finds the nearest. kSteps: in the lowest decade; each further one
// has twice as many. 127 magnitudes between 0 and 1 with 1, which a sign goes with; 254 with 2, without.
template <int kSteps>
struct DynamicMagnitudes {
  static constexpr int kCount = kSteps * 127 + 2;
  static constexpr int kShift = 17;  // of a float's bits: buckets of a 64th of an octave
  static constexpr uint32_t kFirst = (105u << 23) >> kShift;  // 2^-22, below every midpoint
  static constexpr uint32_t kBuckets = 22 * 64 + 1;

  float value[kCount] = {};
  float middle[kCount] = {};        // to the next value; of the last beyond everything
  uint8_t at_least[kBuckets] = {};  // the code nearest to a bucket's lower end

  consteval DynamicMagnitudes() {
    double decade = 1e-6;
    int k = 1;
    for (int i = 0, steps = kSteps; i < 7; ++i, steps *= 2, decade *= 10)
      for (int j = 0; j < steps; ++j)
        value[k++] = static_cast<float>(decade * (0.1 + 0.9 * (j + 0.5) / steps));
    value[k] = 1;
    for (int i = 0; i + 1 < kCount; ++i)
      middle[i] = static_cast<float>((static_cast<double>(value[i]) + static_cast<double>(value[i + 1])) / 2);
    middle[kCount - 1] = 2;
    int code = 0;
    for (uint32_t b = 0; b < kBuckets; ++b) {
      const float low = std::bit_cast<float>((kFirst + b) << kShift);
      while (low > middle[code]) ++code;
      at_least[b] = static_cast<uint8_t>(code);
    }
  }
};

// As kernels read it: the state's numbers by code.
struct DynamicMap {
  float positive[256] = {}, with_sign[256] = {};
  consteval DynamicMap() {
    constexpr DynamicMagnitudes<2> kPositive;
    constexpr DynamicMagnitudes<1> kWithSign;
    for (int i = 0; i < 256; ++i) positive[i] = kPositive.value[i];
    for (int i = 0; i <= 128; ++i) with_sign[127 + i] = kWithSign.value[i];
    for (int i = 1; i <= 127; ++i) with_sign[127 - i] = -kWithSign.value[i];
  }
};

}  // namespace flagscale::op
