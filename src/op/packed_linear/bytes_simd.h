#pragma once
// Vectors of bytes for products of small integers, for *_cpu.cc files. A Bytes holds 4 neighbours of k for
// each of F32::kLanes outputs; dot() adds to each output the products of its 4 unsigned bytes with 4 signed
// ones that all outputs share. Every set computes the same integers.

#include "kernel/simd.h"

namespace flagscale::FLAGSCALE_ISA {

static inline float half_to_float(F16 h) {
  const uint32_t sign = (h.bits & 0x8000u) << 16, rest = h.bits & 0x7fffu;
  uint32_t bits = (rest << 13) + 0x38000000;  // the exponent's bias: 15 to 127
  if (rest >= 0x7c00) bits += 0x38000000;     // infinity, NaN
  float value;
  if (rest < 0x400)
    value = static_cast<float>(rest) * 0x1p-24f;
  else
    std::memcpy(&value, &bits, 4);
  std::memcpy(&bits, &value, 4);
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}

#if defined(__AVX512F__)

static inline F32 load_halves(const F16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline F32 load_bytes(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
static inline F32 load_bytes(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}

struct Bytes {
  __m512i v;
  static Bytes load(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  static Bytes set4(const int8_t* p) {  // the same 4 bytes for every output
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm512_set1_epi32(four)};
  }
  // Bits [shift, shift + ...) of each byte that `mask` leaves, moved up by `up`.
  template <int kShift, int kUp>
  Bytes bits(int mask) const {
    __m512i x = v;
    if constexpr (kShift > kUp) x = _mm512_srli_epi16(x, kShift - kUp);
    if constexpr (kShift < kUp) x = _mm512_slli_epi16(x, kUp - kShift);
    return {_mm512_and_si512(x, _mm512_set1_epi8(static_cast<char>(mask << kUp)))};
  }
  friend Bytes operator|(Bytes a, Bytes b) { return {_mm512_or_si512(a.v, b.v)}; }
  F32 number(int from, int mask) const {  // of each output's 32 bits those from `from` on that mask leaves
    const __m512i shifted = _mm512_srlv_epi32(v, _mm512_set1_epi32(from));
    return {_mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(mask)))};
  }
};

struct Ints {
  __m512i v;
  static Ints set(int32_t x) { return {_mm512_set1_epi32(x)}; }
  F32 to_float() const { return {_mm512_cvtepi32_ps(v)}; }
#if defined(__AVX512VNNI__)
  template <bool kBelow128>
  static Ints dot(Bytes w, Bytes x, Ints sum) {
    return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)};
  }
#else
  template <bool kBelow128>
  static Ints dot(Bytes w, Bytes x, Ints sum) {
    if constexpr (kBelow128)  // pairs fit 16 bits: 2 * 127 * 128
      return {
          _mm512_add_epi32(sum.v, _mm512_madd_epi16(_mm512_maddubs_epi16(w.v, x.v), _mm512_set1_epi16(1)))};
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(w.v, _mm512_set1_epi16(255)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w.v, 8), _mm512_srai_epi16(x.v, 8));
    return {_mm512_add_epi32(sum.v, _mm512_add_epi32(even, odd))};
  }
#endif
};

// Writes x * factor, to nearest and ties to even, for kCount (16 or 32) numbers that fit a byte; returns
// their sum.
template <int64_t kCount>
static inline int32_t round_to_bytes(const float* x, float factor, int8_t* to) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t k = 0; k < kCount; k += 16) {
    const __m512i q = _mm512_cvtps_epi32((F32::load(x + k) * F32::set(factor)).v);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + k), _mm512_cvtepi32_epi8(q));
    sum = _mm512_add_epi32(sum, q);
  }
  return _mm512_reduce_add_epi32(sum);
}

#elif defined(__AVX2__)

static inline F32 load_halves(const F16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline F32 load_bytes(const uint8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
static inline F32 load_bytes(const int8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}

struct Bytes {
  __m256i v;
  static Bytes load(const uint8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
  static Bytes set4(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm256_set1_epi32(four)};
  }
  template <int kShift, int kUp>
  Bytes bits(int mask) const {
    __m256i x = v;
    if constexpr (kShift > kUp) x = _mm256_srli_epi16(x, kShift - kUp);
    if constexpr (kShift < kUp) x = _mm256_slli_epi16(x, kUp - kShift);
    return {_mm256_and_si256(x, _mm256_set1_epi8(static_cast<char>(mask << kUp)))};
  }
  friend Bytes operator|(Bytes a, Bytes b) { return {_mm256_or_si256(a.v, b.v)}; }
  F32 number(int from, int mask) const {
    const __m256i shifted = _mm256_srlv_epi32(v, _mm256_set1_epi32(from));
    return {_mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(mask)))};
  }
};

struct Ints {
  __m256i v;
  static Ints set(int32_t x) { return {_mm256_set1_epi32(x)}; }
  F32 to_float() const { return {_mm256_cvtepi32_ps(v)}; }
  template <bool kBelow128>
  static Ints dot(Bytes w, Bytes x, Ints sum) {
    if constexpr (kBelow128)
      return {
          _mm256_add_epi32(sum.v, _mm256_madd_epi16(_mm256_maddubs_epi16(w.v, x.v), _mm256_set1_epi16(1)))};
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w.v, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(x.v, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w.v, 8), _mm256_srai_epi16(x.v, 8));
    return {_mm256_add_epi32(sum.v, _mm256_add_epi32(even, odd))};
  }
};

template <int64_t kCount>
static inline int32_t round_to_bytes(const float* x, float factor, int8_t* to) {
  __m128i sum = _mm_setzero_si128();
  for (int64_t k = 0; k < kCount; k += 8) {
    const __m256i q = _mm256_cvtps_epi32((F32::load(x + k) * F32::set(factor)).v);
    const __m128i low = _mm256_castsi256_si128(q), high = _mm256_extracti128_si256(q, 1);
    const __m128i words = _mm_packs_epi32(low, high);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + k), _mm_packs_epi16(words, words));
    sum = _mm_add_epi32(sum, _mm_add_epi32(low, high));
  }
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

#else

static inline F32 load_halves(const F16* p) { return {half_to_float(*p)}; }
static inline F32 load_bytes(const uint8_t* p) { return {static_cast<float>(*p)}; }
static inline F32 load_bytes(const int8_t* p) { return {static_cast<float>(*p)}; }

template <int64_t kCount>
static inline int32_t round_to_bytes(const float* x, float factor, int8_t* to) {
  int32_t sum = 0;
  for (int64_t k = 0; k < kCount; ++k) {
    const float shifted = x[k] * factor + 12582912.f;  // 1.5 * 2^23: the sum's last bit is worth 1
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    to[k] = static_cast<int8_t>(bits - 0x4b400000);
    sum += to[k];
  }
  return sum;
}

struct Bytes {
  uint8_t v[4];
  static Bytes load(const uint8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static Bytes set4(const int8_t* p) {
    Bytes b;
    std::memcpy(b.v, p, 4);
    return b;
  }
  template <int kShift, int kUp>
  Bytes bits(int mask) const {
    Bytes b;
    for (int i = 0; i < 4; ++i) b.v[i] = static_cast<uint8_t>((v[i] >> kShift & mask) << kUp);
    return b;
  }
  friend Bytes operator|(Bytes a, Bytes b) {
    for (int i = 0; i < 4; ++i) a.v[i] = static_cast<uint8_t>(a.v[i] | b.v[i]);
    return a;
  }
  F32 number(int from, int mask) const {
    uint32_t bits;
    std::memcpy(&bits, v, 4);
    return {static_cast<float>(static_cast<int>(bits >> from) & mask)};
  }
};

struct Ints {
  int32_t v;
  static Ints set(int32_t x) { return {x}; }
  F32 to_float() const { return {static_cast<float>(v)}; }
  template <bool kBelow128>
  static Ints dot(Bytes w, Bytes x, Ints sum) {
    for (int i = 0; i < 4; ++i) sum.v += w.v[i] * static_cast<int8_t>(x.v[i]);
    return sum;
  }
};

#endif

}  // namespace flagscale::FLAGSCALE_ISA
