#pragma once
// SIMD vectors for kernel files. Included by *_cpu.cc only: each such file is compiled once for every
// instruction set, with FLAGSCALE_ISA naming it (scalar, avx2, avx512, avx512bf16), and puts its kernels in
// namespace FLAGSCALE_ISA, in one of the file's own (files that compile together may name things alike):
//
//   namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE { namespace {
//   template <class V, class T> void rows(...) { V x = V::load(p); ... }
//   } }
//
// So no instruction of one set leaks into another through a shared inline function. For the same reason
// kernel files call no std:: template that may stay out of line.
//
// F32 holds kLanes floats; it loads and stores float and bf16 (computing in fp32). In the scalar set F64
// holds one double: finite differences run the scalar kernels in double.

#ifndef FLAGSCALE_ISA
#error "kernel/simd.h is for *_cpu.cc files, which CMake compiles once an instruction set"
#endif
#ifndef FLAGSCALE_FILE
#define FLAGSCALE_FILE file  // compiled by itself
#endif

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernel/kernel.h"

namespace flagscale::FLAGSCALE_ISA {

// The enumerator of the set that this file is compiled for.
constexpr Isa kIsa = FLAGSCALE_ISA_ENUM;

// Scalar conversions, as tensor/dtype.h defines them, inlined here for each set.
static inline float as_float(float x) { return x; }
static inline double as_float(double x) { return x; }
static inline float as_float(BF16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}
static inline void put(float* p, float x) { *p = x; }
static inline void put(double* p, double x) { *p = x; }
static inline void put(float* p, double x) { *p = static_cast<float>(x); }
static inline void put(BF16* p, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  p->bits = static_cast<uint16_t>(x != x ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline void put(BF16* p, double x) { put(p, static_cast<float>(x)); }

// One lane of S (float or double).
template <class S>
struct Lane {
  using Scalar = S;
  static constexpr int kLanes = 1;
  S v;
  static Lane zero() { return {0}; }
  static Lane set(S x) { return {x}; }
  template <class T>
  static Lane load(const T* p) {
    return {static_cast<S>(as_float(*p))};
  }
  template <class T>
  static Lane load_n(const T* p, int64_t n) {
    return n > 0 ? load(p) : zero();
  }
  template <class T>
  void store(T* p) const {
    put(p, v);
  }
  template <class T>
  void store_n(T* p, int64_t n) const {
    if (n > 0) put(p, v);
  }
  friend Lane operator+(Lane a, Lane b) { return {a.v + b.v}; }
  friend Lane operator-(Lane a, Lane b) { return {a.v - b.v}; }
  friend Lane operator*(Lane a, Lane b) { return {a.v * b.v}; }
  friend Lane operator/(Lane a, Lane b) { return {a.v / b.v}; }
  static Lane fma(Lane a, Lane b, Lane c) { return {a.v * b.v + c.v}; }  // a*b + c
  static Lane max(Lane a, Lane b) { return {a.v > b.v ? a.v : b.v}; }
  static Lane min(Lane a, Lane b) { return {a.v < b.v ? a.v : b.v}; }
  static Lane sqrt(Lane a) { return {std::sqrt(a.v)}; }
  static Lane exp(Lane a) { return {std::exp(a.v)}; }
  S sum() const { return v; }
  S highest() const { return v; }
};
using F64 = Lane<double>;

// exp in fp32: 2^n * p(r), |r| <= ln2/2, a polynomial of degree 6; below 2 ulp. Saturates to 0 and about
// 2^127. Written over the vector's own operations so that every set computes the same polynomial.
struct ExpConstants {
  static constexpr float kLog2e = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kLow = -87.33654f, kHigh = 88.02969f;
  static constexpr float kPolynomial[6] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                           4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

#define FLAGSCALE_VECTOR_EXP(V, ROUND, POWER)                                           \
  static V exp(V x) {                                                                   \
    x = V::min(V::max(x, V::set(ExpConstants::kLow)), V::set(ExpConstants::kHigh));     \
    const V n{ROUND((x * V::set(ExpConstants::kLog2e)).v)};                             \
    V r = V::fma(n, V::set(-ExpConstants::kLn2High), x);                                \
    r = V::fma(n, V::set(-ExpConstants::kLn2Low), r);                                   \
    V p = V::set(ExpConstants::kPolynomial[0]);                                         \
    for (int i = 1; i < 6; ++i) p = V::fma(p, r, V::set(ExpConstants::kPolynomial[i])); \
    p = V::fma(p, r * r, r + V::set(1.f));                                              \
    return POWER(p, n);                                                                 \
  }

#if defined(__AVX512F__)

struct F32 {
  using Scalar = float;
  static constexpr int kLanes = 16;
  __m512 v;
  static F32 zero() { return {_mm512_setzero_ps()}; }
  static F32 set(float x) { return {_mm512_set1_ps(x)}; }
  static __mmask16 mask(int64_t n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
  }
  static __m512 widen(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
  }
  static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F32 load(const BF16* p) { return {widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
  static F32 load_n(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
  static F32 load_n(const BF16* p, int64_t n) { return {widen(_mm256_maskz_loadu_epi16(mask(n), p))}; }
  __m256i narrow() const {
#ifdef __AVX512BF16__
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
#else
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i lsb = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(lsb, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
#endif
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(BF16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow()); }
  void store_n(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, mask(n), v); }
  void store_n(BF16* p, int64_t n) const { _mm256_mask_storeu_epi16(p, mask(n), narrow()); }
  friend F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
  static F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
  static F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
  static F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
  static __m512 round(__m512 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F32 power(F32 p, F32 n) { return {_mm512_scalef_ps(p.v, n.v)}; }
  FLAGSCALE_VECTOR_EXP(F32, round, power)
  float sum() const { return _mm512_reduce_add_ps(v); }
  float highest() const { return _mm512_reduce_max_ps(v); }
};

#elif defined(__AVX2__)

struct F32 {
  using Scalar = float;
  static constexpr int kLanes = 8;
  __m256 v;
  static F32 zero() { return {_mm256_setzero_ps()}; }
  static F32 set(float x) { return {_mm256_set1_ps(x)}; }
  static __m256i mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n > 8 ? 8 : n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256 widen(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
  static F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F32 load(const BF16* p) { return {widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
  static F32 load_n(const float* p, int64_t n) { return {_mm256_maskload_ps(p, mask(n))}; }
  static F32 load_n(const BF16* p, int64_t n) {
    if (n >= 8) return load(p);
    BF16 buffer[8] = {};
    for (int i = 0; i < 8 && i < n; ++i) buffer[i] = p[i];
    return load(buffer);
  }
  __m128i narrow() const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i lsb = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(lsb, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0xd8);
    return _mm256_castsi256_si128(packed);
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(BF16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow()); }
  void store_n(float* p, int64_t n) const { _mm256_maskstore_ps(p, mask(n), v); }
  void store_n(BF16* p, int64_t n) const {
    if (n >= 8) return store(p);
    BF16 buffer[8];
    store(buffer);
    for (int i = 0; i < 8 && i < n; ++i) p[i] = buffer[i];
  }
  friend F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
  static F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
  static F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
  static F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
  static __m256 round(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F32 power(F32 p, F32 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(p.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))};
  }
  FLAGSCALE_VECTOR_EXP(F32, round, power)
  float sum() const {
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
  }
  float highest() const {
    const __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
  }
};

#else

using F32 = Lane<float>;

#endif

// Calls body(V{}, T{}) for the element type of a tensor: (F32, float), (F32, BF16) and, in the scalar set,
// (F64, double). Returns false for any other type.
template <class Body>
static inline bool for_float_type(DType dtype, Body&& body) {
  if (dtype == DType::kF32) return body(F32::zero(), float{}), true;
  if (dtype == DType::kBF16) return body(F32::zero(), BF16{}), true;
  if constexpr (kIsa == Isa::kScalar) {
    if (dtype == DType::kF64) return body(F64::zero(), double{}), true;
  }
  return false;
}

// Calls body(i, n) for i = 0, V::kLanes, ... below size; n is the lanes in use (V::kLanes but for the last).
template <class V, class Body>
static inline void for_lanes(int64_t size, Body&& body) {
  int64_t i = 0;
  for (; i + V::kLanes <= size; i += V::kLanes) body(i, static_cast<int64_t>(V::kLanes));
  if (i < size) body(i, size - i);
}

}  // namespace flagscale::FLAGSCALE_ISA
