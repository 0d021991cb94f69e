#pragma once
// The integer formats of packing.h as types, for *_cpu.cc files: where a block's bits and scales lie.

#include "op/packed_linear/bytes_simd.h"
#include "op/packed_linear/packing.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

constexpr int kVectors = static_cast<int>(kPanel) / F32::kLanes;
constexpr int64_t kLine = 4 * kPanel;  // bytes of a step

// Step kStep of a group for the outputs from n on.
template <int kBits>
struct Bits {
  static constexpr int64_t kBytes = kBits == 8 ? 1024 : kBits == 6 ? 768 : kBits == 5 ? 640 : 512;
  static constexpr int64_t kHigh = kBytes - (kBits == 8 ? 1024 : 512);
  template <int kStep>
  static Bytes step(const uint8_t* group, int64_t n) {
    group += 4 * n;
    if constexpr (kBits == 8) {
      return Bytes::load(group + kStep * kLine);
    } else {
      const Bytes low = Bytes::load(group + kHigh + kStep % 4 * kLine).template bits<kStep / 4 * 4, 0>(15);
      if constexpr (kBits == 5)
        return low | Bytes::load(group).template bits<kStep, 4>(1);
      else if constexpr (kBits == 6)
        return low | Bytes::load(group + kStep / 4 * kLine).template bits<kStep % 4 * 2, 4>(3);
      else
        return low;
    }
  }
  // Element k of the outputs from n on.
  static F32 numbers(const uint8_t* group, int64_t n, int k) {
    group += 4 * n;
    const int step = k / 4, from = k % 4 * 8;
    if constexpr (kBits == 8) {
      return Bytes::load(group + step * kLine).number(from, 255);
    } else {
      const F32 low = Bytes::load(group + kHigh + step % 4 * kLine).number(from + step / 4 * 4, 15);
      if constexpr (kBits == 5)
        return F32::fma(Bytes::load(group).number(from + step, 1), F32::set(16), low);
      else if constexpr (kBits == 6)
        return F32::fma(Bytes::load(group + step / 4 * kLine).number(from + step % 4 * 2, 3), F32::set(16),
                        low);
      else
        return low;
    }
  }
  // Element k of output n.
  static int at(const uint8_t* group, int64_t n, int k) {
    const uint8_t* const p = group + 4 * n + k % 4;
    const int s = k / 4;
    if constexpr (kBits == 8) return p[s * kLine];
    const int low = p[kHigh + s % 4 * kLine] >> (s / 4 * 4) & 15;
    if constexpr (kBits == 5) return low | (p[0] >> s & 1) << 4;
    if constexpr (kBits == 6) return low | (p[s / 4 * kLine] >> (s % 4 * 2) & 3) << 4;
    return low;
  }
};

static inline const F16* halves(const uint8_t* p) { return reinterpret_cast<const F16*>(p); }

// scale() and offset() for the outputs from n on; part: the group of the block, or its half where kParts
// is 2. V: F32, or Lane<float> for one output.
static inline F32 half_vector(const uint8_t* p, int64_t n, F32) { return load_halves(halves(p) + n); }
static inline F32 byte_vector(const uint8_t* p, int64_t n, F32) { return load_bytes(p + n); }
static inline F32 sbyte_vector(const uint8_t* p, int64_t n, F32) {
  return load_bytes(reinterpret_cast<const int8_t*>(p) + n);
}
#if defined(__AVX2__)
using One = Lane<float>;
static inline One half_vector(const uint8_t* p, int64_t n, One) { return {half_to_float(halves(p)[n])}; }
static inline One byte_vector(const uint8_t* p, int64_t n, One) { return {static_cast<float>(p[n])}; }
static inline One sbyte_vector(const uint8_t* p, int64_t n, One) {
  return {static_cast<float>(static_cast<int8_t>(p[n]))};
}
#else
using One = F32;
#endif

// One half a block.
struct Scale {
  static constexpr int64_t kBytes = 2 * kPanel;
  template <class V>
  static V scale(const uint8_t* block, int64_t, int64_t n) {
    return half_vector(block, n, V::zero());
  }
  template <class V>
  static V offset(const uint8_t*, int64_t, int64_t) {
    return V::zero();
  }
};

// A half and the half of a minimum that is added.
struct ScaleMin {
  static constexpr int64_t kBytes = 4 * kPanel;
  template <class V>
  static V scale(const uint8_t* block, int64_t, int64_t n) {
    return half_vector(block, n, V::zero());
  }
  template <class V>
  static V offset(const uint8_t* block, int64_t, int64_t n) {
    return half_vector(block + 2 * kPanel, n, V::zero());
  }
};

// Q4_K, Q5_K: halves d and dmin, a byte of each for every group; dmin times its byte is subtracted.
struct ScaleK {
  static constexpr int64_t kBytes = 20 * kPanel;
  template <class V>
  static V scale(const uint8_t* block, int64_t part, int64_t n) {
    return half_vector(block, n, V::zero()) * byte_vector(block + (4 + part) * kPanel, n, V::zero());
  }
  template <class V>
  static V offset(const uint8_t* block, int64_t part, int64_t n) {
    return V::zero() - half_vector(block + 2 * kPanel, n, V::zero()) *
                           byte_vector(block + (12 + part) * kPanel, n, V::zero());
  }
};

// Q6_K: half d, a signed byte for every 16 elements.
struct ScaleK6 {
  static constexpr int64_t kBytes = 18 * kPanel;
  template <class V>
  static V scale(const uint8_t* block, int64_t part, int64_t n) {
    return half_vector(block, n, V::zero()) * sbyte_vector(block + (2 + part) * kPanel, n, V::zero());
  }
  template <class V>
  static V offset(const uint8_t*, int64_t, int64_t) {
    return V::zero();
  }
};

// kInt8: one fp32 an output, in the panel's head.
struct ScaleRow {
  static constexpr int64_t kBytes = 0;
};

template <int kBits_, class Scales_, int64_t kBlock_, int kZero_, bool kMin_ = false, int kParts_ = 1>
struct Format {
  using Elements = Bits<kBits_>;
  using Scales = Scales_;
  static constexpr int64_t kBlock = kBlock_;  // elements
  static constexpr int kZero = kZero_;        // subtracted from elements
  static constexpr bool kMin = kMin_;         // has offset()
  static constexpr int kParts = kParts_;      // scales a group
  static constexpr bool kRowScale = Scales::kBytes == 0;
  static constexpr bool kBelow128 = kBits_ < 8;
  static constexpr int64_t kGroups = kBlock / kGroup;
  static constexpr int64_t kBlockBytes = Scales::kBytes + kGroups * Elements::kBytes;
  static constexpr int64_t kHeadBytes = kRowScale ? 4 * kPanel : 0;
  static const uint8_t* group(const uint8_t* block, int64_t g) {
    return block + Scales::kBytes + g * Elements::kBytes;
  }
};

// Calls body(F{}) for the type of an integer format.
template <class Body>
static inline void for_format(Packing packing, Body&& body) {
  switch (packing) {
    case Packing::kInt8:
      return body(Format<8, ScaleRow, 32, 128>{});
    case Packing::kInt4:
      return body(Format<4, Scale, 128, 8>{});
    case Packing::kQ8_0:
      return body(Format<8, Scale, 32, 128>{});
    case Packing::kQ4_0:
      return body(Format<4, Scale, 32, 8>{});
    case Packing::kQ4_1:
      return body(Format<4, ScaleMin, 32, 0, true>{});
    case Packing::kQ5_0:
      return body(Format<5, Scale, 32, 16>{});
    case Packing::kQ5_1:
      return body(Format<5, ScaleMin, 32, 0, true>{});
    case Packing::kQ4_K:
      return body(Format<4, ScaleK, 256, 0, true>{});
    case Packing::kQ5_K:
      return body(Format<5, ScaleK, 256, 0, true>{});
    case Packing::kQ6_K:
      return body(Format<6, ScaleK6, 256, 32, false, 2>{});
    case Packing::kF32:
    case Packing::kBF16:
    case Packing::kF16:
      return;
  }
}

}  // namespace flagscale::op::FLAGSCALE_ISA
