#pragma once
// Products of small matrices that already lie in cache, for kernels that need one inside (attention). For
// *_cpu.cc.

#include "kernel/simd.h"

namespace flagscale::FLAGSCALE_ISA {

// How two operands are multiplied: M::multiply_add(a, b, sum).
template <class V>
struct Fused {
  static V multiply_add(V a, V b, V sum) { return V::fma(a, b, sum); }
};

// c[m][n] (+)= a[m][k] b[k][n]: a(i, k) at a[i * a_row + k * a_col], rows of b and c contiguous, n a multiple
// of V::kLanes. kAdd: adds to c. Sums run along k in order.
template <class V, int kRows, int kVectors, bool kAdd, class M>
static inline void product_tile(const typename V::Scalar* a, int64_t a_row, int64_t a_col,
                                const typename V::Scalar* b, int64_t b_row, typename V::Scalar* c,
                                int64_t c_row, int64_t depth) {
  V sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j] = kAdd ? V::load(c + i * c_row + j * V::kLanes) : V::zero();
  for (int64_t k = 0; k < depth; ++k, a += a_col, b += b_row) {
    V bk[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) bk[j] = V::load(b + j * V::kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V ai = V::set(a[i * a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = M::multiply_add(ai, bk[j], sum[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j].store(c + i * c_row + j * V::kLanes);
}

template <class V, int kVectors, bool kAdd, class M>
static inline void product_columns(const typename V::Scalar* a, int64_t a_row, int64_t a_col,
                                   const typename V::Scalar* b, int64_t b_row, typename V::Scalar* c,
                                   int64_t c_row, int64_t m, int64_t depth) {
  constexpr int kRows = V::kLanes == 16 ? 12 : 6;  // kRows x 2 accumulators fit the registers
  int64_t i = 0;
  for (; i + kRows <= m; i += kRows)
    product_tile<V, kRows, kVectors, kAdd, M>(a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row,
                                              depth);
  for (; i + 4 <= m; i += 4)
    product_tile<V, 4, kVectors, kAdd, M>(a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, depth);
  for (; i < m; ++i)
    product_tile<V, 1, kVectors, kAdd, M>(a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, depth);
}

template <class V, bool kAdd, class M = Fused<V>>
static inline void product(const typename V::Scalar* a, int64_t a_row, int64_t a_col,
                           const typename V::Scalar* b, int64_t b_row, typename V::Scalar* c, int64_t c_row,
                           int64_t m, int64_t n, int64_t depth) {
  int64_t j = 0;
  for (; j + 2 * V::kLanes <= n; j += 2 * V::kLanes)
    product_columns<V, 2, kAdd, M>(a, a_row, a_col, b + j, b_row, c + j, c_row, m, depth);
  for (; j < n; j += V::kLanes)
    product_columns<V, 1, kAdd, M>(a, a_row, a_col, b + j, b_row, c + j, c_row, m, depth);
}

}  // namespace flagscale::FLAGSCALE_ISA
