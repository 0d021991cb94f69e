#pragma once
// The two products of paged attention over the pages of one chunk, for *_cpu.cc files. Every output is one
// chain of fused multiply-adds in the order of its sum, whatever the tile that it is in: so a row's numbers
// do not depend on the rows beside it.

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

constexpr int64_t kPage = 16;  // tokens
// Accumulators that fit the registers beside the operands.
template <class V>
constexpr int kAccumulators = V::kLanes == 16  ? 24
                              : V::kLanes == 8 ? 12
                                               : 16;

// One number of a page's head, by the cache's type; and where the scales of an int8 one lie.
template <class V, class C>
static inline V element(const C* p) {
  return V::load(p);
}
#if defined(__AVX512F__)
template <class V>
static inline V element(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
#elif defined(__AVX2__)
template <class V>
static inline V element(const int8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
#else
template <class V>
static inline V element(const int8_t* p) {
  return V::set(static_cast<typename V::Scalar>(*p));
}
#endif
template <class C>
constexpr bool kScaled = sizeof(C) == 1;
static inline const float* scales_of(const int8_t* head, int64_t elements) {
  return reinterpret_cast<const float*>(head + elements);
}

// Calls body(C{}) for the type of a cache that V can be multiplied with.
template <class V, class Body>
static inline void for_cache_type(DType dtype, Body&& body) {
  for_float_type(dtype, [&]<class W, class C>(W, C c) {
    if constexpr (sizeof(typename V::Scalar) == sizeof(typename W::Scalar)) body(c);
  });
  if constexpr (sizeof(typename V::Scalar) == sizeof(float)) {
    if (dtype == DType::kI8) body(int8_t{});
  }
}

// Few rows wait for memory: they ask for lines ahead of their use, since pages are too short for the hardware
// to do it.
constexpr int kFewRows = 4, kPagesAhead = 4;

// scores[r][page * kPage + t] = sum over i of q[r][i] * k[page][i][t], for kRows rows and kPages pages. k has
// kPagesAhead entries more, and v the pages of the values: both are only fetched.
template <class V, class C, int kRows, int kPages>
static inline void score_tile(const typename V::Scalar* q, int64_t depth, const C* const* k,
                              const C* const* v, typename V::Scalar* scores, int64_t pitch) {
  constexpr int kWide = static_cast<int>(kPage) / V::kLanes;
  V sum[kRows][kPages * kWide];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < kPages * kWide; ++j) sum[r][j] = V::zero();
  for (int64_t i = 0; i < depth; ++i) {
    V key[kPages * kWide];
#pragma GCC unroll 16
    for (int j = 0; j < kPages * kWide; ++j)
      key[j] = element<V>(k[j / kWide] + i * kPage + j % kWide * V::kLanes);
    if constexpr (kRows <= kFewRows && V::kLanes > 1) {
#pragma GCC unroll 4
      for (int page = 0; page < kPages; ++page) {
        _mm_prefetch(k[page + kPages] + i * kPage, _MM_HINT_T0);
        _mm_prefetch(v[page] + i * kPage, _MM_HINT_T1);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V query = V::set(q[r * depth + i]);
#pragma GCC unroll 16
      for (int j = 0; j < kPages * kWide; ++j) sum[r][j] = V::fma(query, key[j], sum[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < kPages * kWide; ++j) {
      if constexpr (kScaled<C>)
        sum[r][j] = sum[r][j] * V::load(scales_of(k[j / kWide], depth * kPage) + j % kWide * V::kLanes);
      sum[r][j].store(scores + r * pitch + j * V::kLanes);
    }
}

// Weights times the scales of their values: p[key] *= scale of v[key], for the keys [begin, end) from the
// first of a page on.
template <class V, class C>
static inline void scale_weights(typename V::Scalar* p, const C* const* v, int64_t pitch, int64_t begin,
                                 int64_t end) {
  for (int64_t key = begin; key < end; key += kPage)
    for_lanes<V>(end - key < kPage ? end - key : kPage, [&](int64_t i, int64_t n) {
      const V scale = V::load_n(scales_of(v[key / kPage], kPage * pitch) + i, n);
      (V::load_n(p + key + i, n) * scale).store_n(p + key + i, n);
    });
}

// out[r][i] = sum over keys of p[r][key] * v[key][i], for kRows rows and kWide vectors of columns; keys
// [begin, end).
template <class V, class C, int kRows, int kWide>
static inline void mix_tile(const typename V::Scalar* p, int64_t p_pitch, const C* const* v, int64_t column,
                            int64_t begin, int64_t end, typename V::Scalar* out, int64_t pitch) {
  V sum[kRows][kWide];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < kWide; ++j) sum[r][j] = V::zero();
  for (int64_t key = begin; key < end;) {
    const C* row = v[key / kPage] + key % kPage * pitch + column;
    const int64_t stop = (key / kPage + 1) * kPage < end ? (key / kPage + 1) * kPage : end;
    for (; key < stop; ++key, row += pitch) {
      V value[kWide];
#pragma GCC unroll 16
      for (int j = 0; j < kWide; ++j) value[j] = element<V>(row + j * V::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const V weight = V::set(p[r * p_pitch + key]);
#pragma GCC unroll 16
        for (int j = 0; j < kWide; ++j) sum[r][j] = V::fma(weight, value[j], sum[r][j]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < kWide; ++j) sum[r][j].store(out + r * pitch + column + j * V::kLanes);
}

template <class V, class C, int kRows>
static inline void score_rows(const typename V::Scalar* q, int64_t depth, const C* const* k,
                              const C* const* v, int64_t first, int64_t last, typename V::Scalar* scores,
                              int64_t pitch) {
  constexpr int kFit = kAccumulators<V> / (kRows * static_cast<int>(kPage) / V::kLanes);
  constexpr int kPages = kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  int64_t page = first;
  for (; page + kPages <= last; page += kPages)
    score_tile<V, C, kRows, kPages>(q, depth, k + page, v + page, scores + page * kPage, pitch);
  for (; page < last; ++page)
    score_tile<V, C, kRows, 1>(q, depth, k + page, v + page, scores + page * kPage, pitch);
}

template <class V, class C, int kRows>
static inline void mix_rows(const typename V::Scalar* p, int64_t p_pitch, const C* const* v, int64_t begin,
                            int64_t end, typename V::Scalar* out, int64_t pitch) {
  constexpr int kFit = kAccumulators<V> / kRows;
  constexpr int kWide = kFit >= 4 ? 4 : 2;
  int64_t i = 0;
  for (; i + kWide * V::kLanes <= pitch; i += kWide * V::kLanes)
    mix_tile<V, C, kRows, kWide>(p, p_pitch, v, i, begin, end, out, pitch);
  for (; i < pitch; i += V::kLanes) mix_tile<V, C, kRows, 1>(p, p_pitch, v, i, begin, end, out, pitch);
}

// Calls body.template operator()<n>(first row) over tiles of at most 6 rows.
template <class Body>
static inline void for_row_tiles(int64_t rows, Body&& body) {
  int64_t r = 0;
  for (; r + 6 <= rows; r += 6) body.template operator()<6>(r);
  switch (rows - r) {
    case 5:
      return body.template operator()<5>(r);
    case 4:
      return body.template operator()<4>(r);
    case 3:
      return body.template operator()<3>(r);
    case 2:
      return body.template operator()<2>(r);
    case 1:
      return body.template operator()<1>(r);
    default:
      return;
  }
}

}  // namespace flagscale::op::FLAGSCALE_ISA
