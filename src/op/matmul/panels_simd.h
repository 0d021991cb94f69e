#pragma once
// Packing for matrix products, for *_cpu.cc files. A unit is what one lane multiplies at a time: a number
// widened to the type of the sums, or, where the CPU multiplies pairs of bf16, two neighbours along k in 32
// bits (carried as a float's bits; they are only moved). Packed, a matrix is units[k][columns] or
// units[rows][k], zeros past its end.

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

using namespace flagscale::FLAGSCALE_ISA;

// T as units of V's scalar.
template <class V, class T>
struct Units {
  static constexpr int64_t kElements = 1;  // of k in a unit
  static constexpr bool kIsUnit =
      sizeof(T) == sizeof(typename V::Scalar);  // memory along k already holds units
  // kLanes units that follow each other along k, of which `left` elements exist; k is contiguous.
  static V along(const T* p, int64_t left) { return left >= V::kLanes ? V::load(p) : V::load_n(p, left); }
  // One unit of each of `count` columns; columns are contiguous, k steps by `stride` and has `left` elements.
  static V across(const T* p, int64_t stride, int64_t left, int64_t count) {
    static_cast<void>(stride), static_cast<void>(left);
    return count >= V::kLanes ? V::load(p) : V::load_n(p, count);
  }
  static V multiply_add(V a, V b, V sum) { return V::fma(a, b, sum); }
};

#ifdef __AVX512BF16__
template <>
struct Units<F32, BF16> {
  static constexpr int64_t kElements = 2;
  static constexpr bool kIsUnit = true;
  static F32 along(const BF16* p, int64_t left) {
    const __mmask32 mask = left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1u;
    return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, p))};
  }
  static F32 across(const BF16* p, int64_t stride, int64_t left, int64_t count) {
    const __mmask16 mask = F32::mask(count);
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
    if (left < 2) return {_mm512_castsi512_ps(low)};
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + stride));
    return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
  }
  static F32 multiply_add(F32 a, F32 b, F32 sum) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)};
  }
};
#endif

// Transposes a square of kLanes vectors in registers.
template <class S>
static inline void transpose(Lane<S> (&)[1]) {}

#if defined(__AVX512F__)
static inline void transpose(F32 (&r)[16]) {
  __m512 t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4)
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512d a = _mm512_castps_pd(t[g + i]), b = _mm512_castps_pd(t[g + i + 2]);
      u[g + 2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      u[g + 2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  // u[g + c] holds column 4 l + c of rows g to g + 3 in its 128-bit lane l.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 even_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88),
                 even_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd),
                 odd_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
    r[c].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    r[4 + c].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    r[8 + c].v = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    r[12 + c].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}
#elif defined(__AVX2__)
static inline void transpose(F32 (&r)[8]) {
  __m256 t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
  }
#pragma GCC unroll 2
  for (int g = 0; g < 8; g += 4)
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m256d a = _mm256_castps_pd(t[g + i]), b = _mm256_castps_pd(t[g + i + 2]);
      u[g + 2 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
      u[g + 2 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    r[c].v = _mm256_permute2f128_ps(u[c], u[4 + c], 0x20);
    r[4 + c].v = _mm256_permute2f128_ps(u[c], u[4 + c], 0x31);
  }
}
#endif

// A matrix operand: `length` elements along k, `count` rows (columns) of it.
template <class T>
struct Source {
  const T* data;
  int64_t stride;     // between rows of memory
  bool k_contiguous;  // a memory row runs along k; else across the rows (columns)
  int64_t length, count;
};

// Packing walks many rows at once, more than the hardware follows: it asks for memory ahead itself.
constexpr int64_t kAhead = 256;  // bytes along a row

// to[unit][pitch] = a square of kLanes units and columns at unit u and column i. kWhole: all of it exists.
template <class V, class T, bool kWhole>
static inline void pack_square(const Source<T>& x, int64_t u, int64_t i, typename V::Scalar* to,
                               int64_t pitch) {
  using U = Units<V, T>;
  constexpr int64_t kMany = 1 << 20;
  const int64_t k = u * U::kElements;
  if (!x.k_contiguous) {
    const T* p = x.data + k * x.stride + i;
    for (int j = 0; j < V::kLanes; ++j, p += U::kElements * x.stride) {
      const int64_t left = kWhole ? kMany : x.length - k - j * U::kElements;
      if (left > 0) __builtin_prefetch(p + V::kLanes * U::kElements * x.stride);
      const V v = left > 0 ? U::across(p, x.stride, left, kWhole ? kMany : x.count - i) : V::zero();
      v.store(to + j * pitch);
    }
    return;
  }
  V square[V::kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < V::kLanes; ++j) {
    const T* p = x.data + (i + j) * x.stride + k;
    const bool exists = kWhole || i + j < x.count;
    if (exists) __builtin_prefetch(p + kAhead / static_cast<int64_t>(sizeof(T)));
    square[j] = exists ? U::along(p, kWhole ? kMany : x.length - k) : V::zero();
  }
  transpose(square);
#pragma GCC unroll 16
  for (int j = 0; j < V::kLanes; ++j) square[j].store(to + j * pitch);
}

// to[unit][kWidth]: columns [first, first + kWidth) and units [u0, u0 + units) of x, units rounded up to
// kLanes.
template <class V, class T, int kWidth>
[[gnu::noinline]] static void pack_by_unit(const Source<T>& x, int64_t first, int64_t u0, int64_t units,
                                           typename V::Scalar* to) {
  const int64_t whole = x.length / Units<V, T>::kElements - u0;  // units without padding
  for (int i = 0; i < kWidth; i += V::kLanes)
    for (int64_t u = 0; u < units; u += V::kLanes) {
      typename V::Scalar* const p = to + u * kWidth + i;
      for (int j = 0; j < V::kLanes; ++j) __builtin_prefetch(p + (V::kLanes + j) * kWidth, 1);
      if (u + V::kLanes <= whole && first + i + V::kLanes <= x.count)
        pack_square<V, T, true>(x, u0 + u, first + i, p, kWidth);
      else
        pack_square<V, T, false>(x, u0 + u, first + i, p, kWidth);
    }
}

// to[row][unit]: the same of rows [first, first + rows) of an x contiguous along k.
template <class V, class T>
[[gnu::noinline]] static void pack_by_row(const Source<T>& x, int64_t first, int64_t rows, int64_t u0,
                                          int64_t units, typename V::Scalar* to, int64_t pitch) {
  for (int64_t i = 0; i < rows; ++i, to += pitch)
    for (int64_t u = 0; u < units; u += V::kLanes) {
      const int64_t k = (u0 + u) * Units<V, T>::kElements;
      __builtin_prefetch(to + pitch + u, 1);
      const V v = first + i < x.count ? Units<V, T>::along(x.data + (first + i) * x.stride + k, x.length - k)
                                      : V::zero();
      v.store(to + u);
    }
}

// Asks for slice `part` of `parts` of what pack_by_row will read.
template <class V, class T>
static inline void prefetch_rows(const Source<T>& x, int64_t first, int64_t rows, int64_t u0, int64_t units,
                                 int64_t part, int64_t parts) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  const int64_t k0 = u0 * Units<V, T>::kElements, left = x.length - k0,
                depth = units * Units<V, T>::kElements;
  const int64_t used = depth < left ? depth : left, count = first + rows < x.count ? rows : x.count - first;
  if (count <= 0) return;
  const int64_t memory_rows = x.k_contiguous ? count : used, width = x.k_contiguous ? used : count;
  const T* p = x.data + (x.k_contiguous ? first * x.stride + k0 : k0 * x.stride + first);
  const int64_t end = memory_rows * (part + 1) / parts;
  for (int64_t i = memory_rows * part / parts; i < end; ++i)
    for (int64_t j = 0; j < width; j += kLine) __builtin_prefetch(p + i * x.stride + j, 0, 2);
}

}  // namespace flagscale::op::FLAGSCALE_ISA
