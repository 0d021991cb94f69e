#pragma once
// The register tile of matrix products: some rows of a, where they lie or packed, times a packed panel of b.
// For *_cpu.cc.

#include <type_traits>

#include "op/matmul/panels_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

template <class V>
struct Tile {
  // Accumulators fill the registers: 14 x 2 of 32, or 6 x 2 of 16.
  static constexpr int kRows = V::kLanes == 16 ? 14 : V::kLanes == 8 ? 6 : 4;
  static constexpr int kColumns = (V::kLanes == 1 ? 4 : 2) * V::kLanes;
  static constexpr int kVectors = kColumns / V::kLanes;
  static constexpr int kBufferRows = V::kLanes == 16  ? 16
                                     : V::kLanes == 8 ? 8
                                                      : 4;  // kRows rounded up to kLanes
};

// kRows rows of a: unit (i, k) at data[i * row_step + k] or data[i + k * unit_step].
template <class S>
struct Rows {
  const S* data;
  int64_t row_step;   // 0: across
  int64_t unit_step;  // 0: along
};

// Five pointers and one step reach 14 rows: the barrier keeps the compiler from making 14 pointers of them
// and spilling.
template <class S, int kRows>
struct Along {
  const S *p0, *p1, *p2, *p3, *p4;
  int64_t step;
  explicit Along(const Rows<S>& a)
      : p0(a.data),
        p1(p0 + (kRows > 3 ? 3 : 0) * a.row_step),
        p2(p0 + (kRows > 6 ? 6 : 0) * a.row_step),
        p3(p0 + (kRows > 9 ? 9 : 0) * a.row_step),
        p4(p0 + (kRows > 12 ? 12 : 0) * a.row_step),
        step(a.row_step) {}
  S operator[](int i) const {
    const S* const p = i < 3 ? p0 : i < 6 ? p1 : i < 9 ? p2 : i < 12 ? p3 : p4;
    return p[i % 3 * step];
  }
  void next() {
    ++p0, ++p1, ++p2, ++p3, ++p4;
    asm("" : "+r"(p0), "+r"(p1), "+r"(p2), "+r"(p3), "+r"(p4));
  }
};
template <class S>
struct Across {
  const S* p;
  int64_t step;
  explicit Across(const Rows<S>& a) : p(a.data), step(a.unit_step) {}
  S operator[](int i) const { return p[i]; }
  void next() { p += step; }
};

// A further product whose sum goes on where the first ends: few units of other rows, along k.
template <class S>
struct Tail {
  Rows<S> rows;
  const S* b;
  int64_t depth;
};
struct NoTail {};

// tile[kRows][kColumns] = rows of a times a panel of b, and the tail's.
template <class V, class T, class A, int kRows, class More>
[[gnu::noinline]] static void multiply(const Rows<typename V::Scalar>& rows, const typename V::Scalar* b,
                                       int64_t depth, typename V::Scalar* tile, const More& tail) {
  using S = typename V::Scalar;
  constexpr int kVectors = Tile<V>::kVectors;
  V sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j] = V::zero();
  const auto add = [&](auto a, const S* p, int64_t units) __attribute__((always_inline)) {
    for (const auto* const end = p + units * Tile<V>::kColumns; p < end; a.next(), p += Tile<V>::kColumns) {
      V right[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) right[j] = V::load(p + j * V::kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const V left = V::set(a[i]);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sum[i][j] = Units<V, T>::multiply_add(left, right[j], sum[i][j]);
      }
    }
  };
  add(A(rows), b, depth);
  if constexpr (!std::is_same_v<More, NoTail>) add(Along<S, kRows>(tail.rows), tail.b, tail.depth);
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j].store(tile + i * Tile<V>::kColumns + j * V::kLanes);
}

template <class V, class T, int kRows, class More>
static void multiply_in_order(const Rows<typename V::Scalar>& a, const typename V::Scalar* b, int64_t depth,
                              typename V::Scalar* tile, const More& tail) {
  using S = typename V::Scalar;
  if (a.unit_step == 0)
    multiply<V, T, Along<S, kRows>, kRows>(a, b, depth, tile, tail);
  else
    multiply<V, T, Across<S>, kRows>(a, b, depth, tile, tail);
}

// The smallest tile that holds `count` rows.
template <class V, class T, class More = NoTail>
static void multiply_rows(int64_t count, const Rows<typename V::Scalar>& a, const typename V::Scalar* b,
                          int64_t depth, typename V::Scalar* tile, const More& tail = {}) {
  constexpr int kRows = Tile<V>::kRows;
  if (count == 1) return multiply_in_order<V, T, 1>(a, b, depth, tile, tail);
  if (count <= 4 && kRows > 4) return multiply_in_order<V, T, 4>(a, b, depth, tile, tail);
  if constexpr (kRows > 8) {
    if (count <= 8) return multiply_in_order<V, T, 8>(a, b, depth, tile, tail);
  }
  multiply_in_order<V, T, kRows>(a, b, depth, tile, tail);
}

}  // namespace flagscale::op::FLAGSCALE_ISA
