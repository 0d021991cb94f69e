#pragma once
// The factors of attention's products as the processor multiplies them, for *_cpu.cc files. A unit is what
// one lane multiplies: a number widened to the type of the sums, or, where the processor has an instruction
// for it, two neighbouring bf16 of the dimension that is summed over (carried as the bits of a float). A
// matrix whose columns are summed over is packed `along` its rows, units[rows][columns / kElements], one
// whose rows are summed over `across` them, units[rows / kElements][columns]; what does not exist is zero.

#include "kernel/small_product.h"
#include "kernel/transpose_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

template <class V, class T>
struct Widened : Fused<V> {
  using S = typename V::Scalar;
  static constexpr int64_t kElements = 1;

  // to[padded][pitch] from x[rows][stride]; both packings are the same.
  static void along(const T* x, int64_t stride, int64_t rows, int64_t columns, int64_t pitch, S* to) {
    for (int64_t r = 0; r < rows; ++r, x += stride, to += pitch) {
      for_lanes<V>(columns, [&](int64_t i, int64_t n) { V::load_n(x + i, n).store_n(to + i, n); });
      for (int64_t i = columns; i < pitch; ++i) to[i] = 0;
    }
  }
  static void across(const T* x, int64_t stride, int64_t rows, int64_t padded, int64_t columns, int64_t pitch,
                     S* to) {
    along(x, stride, rows, columns, pitch, to);
    for (int64_t i = rows * pitch; i < padded * pitch; ++i) to[i] = 0;
  }
  // to[columns][padded]: x packed along and transposed.
  static void transposed(const T* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded, S* to) {
    transpose<V>(x, stride, rows, columns, padded, to, padded);
  }
};

#ifdef __AVX512BF16__

struct Paired {
  static constexpr int64_t kElements = 2;

  static F32 multiply_add(F32 a, F32 b, F32 sum) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)};
  }
  // Pairs (low, high), lane by lane.
  static F32 pair(__m256i low, __m256i high) {
    return {_mm512_castsi512_ps(
        _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)))};
  }

  static void along(const BF16* x, int64_t stride, int64_t rows, int64_t columns, int64_t pitch, float* to) {
    Widened<F32, float>::along(reinterpret_cast<const float*>(x), stride / 2, rows, columns / 2, pitch, to);
  }
  static void across(const BF16* x, int64_t stride, int64_t rows, int64_t padded, int64_t columns,
                     int64_t pitch, float* to) {
    for (int64_t r = 0; r < padded; r += 2, x += 2 * stride, to += pitch)
      for (int64_t i = 0; i < pitch; i += 16) {
        const __mmask16 mask = F32::mask(columns - i);
        pair(_mm256_maskz_loadu_epi16(r < rows ? mask : __mmask16{0}, x + i),
             _mm256_maskz_loadu_epi16(r + 1 < rows ? mask : __mmask16{0}, x + stride + i))
            .store(to + i);
      }
  }
  static void transposed(const BF16* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded,
                         float* to) {
    transpose<F32>(reinterpret_cast<const float*>(x), stride / 2, rows, columns / 2, padded, to, padded);
  }
  // Sums of one product on the way to be factors of another: columns [begin, end) of a row along, whole rows
  // across.
  static void along_row(const float* x, int64_t begin, int64_t end, float* to) {
    for (int64_t i = begin; i < end; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i / 2), F32::load(x + i).narrow());
  }
  static void across_rows(const float* x, int64_t rows, int64_t columns, float* to) {
    for (int64_t r = 0; r < rows; r += 2, x += 2 * columns, to += columns)
      for (int64_t i = 0; i < columns; i += 16)
        pair(F32::load(x + i).narrow(),
             r + 1 < rows ? F32::load(x + columns + i).narrow() : _mm256_setzero_si256())
            .store(to + i);
  }
};

#endif

// Calls body(V, T, factors) for the element type of a tensor; `even`: pairs are whole in every row.
template <class Body>
static inline void for_factors(DType dtype, bool even, Body&& body) {
  static_cast<void>(even);
  for_float_type(dtype, [&]<class V, class T>(V v, T t) {
#ifdef __AVX512BF16__
    if constexpr (sizeof(T) == 2) {
      if (even) return body(v, t, Paired{});
    }
#endif
    body(v, t, Widened<V, T>{});
  });
}

}  // namespace flagscale::op::FLAGSCALE_ISA
