#pragma once
// Transposes through registers, for *_cpu.cc files.

#include "kernel/simd.h"

namespace flagscale::FLAGSCALE_ISA {

// Exchanges rows and columns of a square of kLanes vectors.
template <class S>
static inline void transpose_square(Lane<S>*) {}

#if defined(__AVX512F__)

static inline void transpose_square(F32* x) {
  __m512 a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  // b[4 i + c], quarter q, holds column 4 q + c of rows 4 i .. 4 i + 3
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 even0 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88),
                 odd0 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    const __m512 even1 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x88),
                 odd1 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xdd);
    x[c].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
    x[8 + c].v = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    x[4 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    x[12 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}

#elif defined(__AVX2__)

static inline void transpose_square(F32* x) {
  __m256 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(x[i].v, x[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(x[i].v, x[i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const __m256d low = _mm256_castps_pd(a[i + j]), high = _mm256_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
      b[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
    }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // b[4 i + c], half h, holds column 4 h + c of rows 4 i .. 4 i + 3
    x[c].v = _mm256_permute2f128_ps(b[c], b[4 + c], 0x20);
    x[4 + c].v = _mm256_permute2f128_ps(b[c], b[4 + c], 0x31);
  }
}

#endif

// to[columns][to_stride] from x[rows][stride], zeros for rows up to `padded`, a multiple of V::kLanes.
template <class V, class T>
static inline void transpose(const T* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded,
                             typename V::Scalar* to, int64_t to_stride) {
  for (int64_t r = 0; r < padded; r += V::kLanes)
    for (int64_t c = 0; c < columns; c += V::kLanes) {
      const int64_t left = columns - c;
      V square[V::kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < V::kLanes; ++i)
        square[i] = r + i >= rows       ? V::zero()
                    : left >= V::kLanes ? V::load(x + (r + i) * stride + c)
                                        : V::load_n(x + (r + i) * stride + c, left);
      transpose_square(square);
#pragma GCC unroll 16
      for (int i = 0; i < V::kLanes; ++i)
        if (i < left) square[i].store(to + (c + i) * to_stride + r);
    }
}

}  // namespace flagscale::FLAGSCALE_ISA
