#pragma once
// What the forward and the backward kernel of attention share, for *_cpu.cc files: queries and keys in blocks
// of kBlock, a block's queries in strips of kStrip rows, and of a strip only the columns that some row of it
// sees.

#include "kernel/units.h"
#include "op/attention/attention.h"
#include "op/attention/attention_factors.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

constexpr int64_t kBlock = 64, kStrip = 12, kColumnStep = 16;

template <class S>
constexpr S kLowest = static_cast<S>(-1e30);

static inline int64_t ceil_div(int64_t n, int64_t size) { return (n + size - 1) / size; }
static inline int64_t at_most(int64_t x, int64_t most) { return x < most ? x : most; }
static inline int64_t padded_dim(const AttentionShape& s) {
  return ceil_div(s.head_dim, kColumnStep) * kColumnStep;
}

// The packed sequences of a call.
struct Sequences {
  const int32_t* ends;
  int64_t count;
  Sequences(const TensorView& cu_seqlens, const int64_t* live)
      : ends(cu_seqlens.ptr<const int32_t>()), count(live ? *live : cu_seqlens.dims[0] - 1) {}
  int64_t begin(int64_t s) const { return ends[s]; }
  int64_t length(int64_t s) const { return ends[s + 1] - ends[s]; }
  // starts[s]: blocks of `size` tokens before sequence s, times `each`.
  void number(int64_t size, int64_t each, int64_t* starts) const {
    starts[0] = 0;
    for (int64_t s = 0; s < count; ++s) starts[s + 1] = starts[s] + ceil_div(length(s), size) * each;
  }
};

// Columns [begin, end) of a block of keys.
struct Columns {
  int64_t begin, end;
};

// The keys of [k0, k0 + kBlock) that `query` sees.
static inline Columns visible(int64_t query, int64_t k0, int64_t window) {
  const int64_t low = window > 0 && query - window + 1 > k0 ? query - window + 1 - k0 : 0;
  const int64_t end = query + 1 < k0 ? 0 : at_most(query + 1 - k0, kBlock), begin = at_most(low, kBlock);
  return {begin, end > begin ? end : begin};
}

// The columns that the rows [query, query + rows) need, in whole steps; begin = end where they see none.
static inline Columns strip_columns(int64_t query, int64_t rows, int64_t k0, int64_t window) {
  const int64_t begin = visible(query, k0, window).begin, end = visible(query + rows - 1, k0, 0).end;
  if (begin >= end) return {0, 0};
  return {begin / kColumnStep * kColumnStep, ceil_div(end, kColumnStep) * kColumnStep};
}

static inline int64_t first_block(int64_t query, int64_t window) {
  return window > 0 && query - window + 1 > 0 ? (query - window + 1) / kBlock : 0;
}

// Whether every row of x starts on a whole pair.
static inline bool even(const TensorView& x) { return x.row_stride() % 2 == 0; }

}  // namespace flagscale::op::FLAGSCALE_ISA
