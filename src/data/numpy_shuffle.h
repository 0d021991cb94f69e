#pragma once
// numpy.random.RandomState(seed).shuffle: the legacy generator, which is frozen in numpy, so equal for ever.

#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <utility>

#include "base/interrupt.h"

namespace flagscale::data {

class NumpyRandom {
 public:
  // numpy seeds MT19937 with Knuth's multiplier, as the standard library does.
  explicit NumpyRandom(uint32_t seed) : engine_(seed) {}

  // Uniform in [0, max]: bits under the smallest mask that holds max, drawn again while above it.
  uint64_t interval(uint64_t max) {
    if (max == 0) return 0;
    const uint64_t mask = ~uint64_t{0} >> std::countl_zero(max);
    uint64_t value;
    do value = max <= 0xffffffffu ? draw32() & mask : draw64() & mask;
    while (value > max);
    return value;
  }

  // Billions take a minute: throws Error{kInterrupted} after Ctrl-C.
  template <class T>
  void shuffle(std::span<T> values) {
    for (uint64_t i = values.size(); i-- > 1;) {
      if (i % (1 << 16) == 0) throw_if_interrupted();
      std::swap(values[i], values[interval(i)]);
    }
  }

 private:
  uint64_t draw32() { return static_cast<uint32_t>(engine_()); }
  uint64_t draw64() {
    const uint64_t high = draw32();
    return high << 32 | draw32();
  }
  std::mt19937 engine_;
};

}  // namespace flagscale::data
