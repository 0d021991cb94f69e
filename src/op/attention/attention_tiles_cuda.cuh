#pragma once
// What the GPU's attention kernels share: which tile of which sequence a block works on, and what a query
// sees.

#include "kernel/cuda/cuda.cuh"
#include "op/attention/attention.h"

namespace flagscale::op {

struct Sequences {
  const int32_t* ends;
  int64_t count;
};

inline Sequences sequences_of(const TensorView& ends, const int64_t* live) {
  return {ends.ptr<const int32_t>(), live ? *live : ends.dims[0] - 1};
}

// A tile of one sequence: the sequence's first token and length, and the tile's first token in it. Length 0:
// none.
struct Tile {
  int64_t begin = 0, length = 0, first = 0;
};

// By all lanes of a warp, each looking at a sequence.
template <int kTile>
__device__ Tile tile_of(Sequences s, int64_t index) {
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int left = static_cast<int>(index);
  for (int64_t base = 0; base < s.count; base += 32) {
    const bool there = base + lane < s.count;
    const int begin = there ? s.ends[base + lane] : 0, length = there ? s.ends[base + lane + 1] - begin : 0,
              tiles = (length + kTile - 1) / kTile;
    int end = tiles;  // of this sequence's tiles among those of the 32
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(kAll, end, step);
      if (lane >= step) end += before;
    }
    const unsigned owner = __ballot_sync(kAll, left >= end - tiles && left < end);
    if (owner != 0) {
      const int lane_of_it = __ffs(static_cast<int>(owner)) - 1;
      return {__shfl_sync(kAll, begin, lane_of_it), __shfl_sync(kAll, length, lane_of_it),
              int64_t{left - __shfl_sync(kAll, end - tiles, lane_of_it)} * kTile};
    }
    left -= __shfl_sync(kAll, end, 31);
  }
  return {};
}

// As many tiles as the tokens can be cut into; those that no sequence has end at once.
template <int kTile>
unsigned most_tiles(int64_t tokens, int64_t sequences) {
  return static_cast<unsigned>(cuda::divide_up(tokens, kTile) + sequences);
}

__device__ inline bool sees(int64_t query, int64_t key, const AttentionShape& s) {
  return key <= query && (s.window == 0 || key + s.window > query);
}

template <int kTile>
__device__ int64_t first_key_tile(int64_t query, const AttentionShape& s) {
  return s.window == 0 || query < s.window ? 0 : (query - s.window + 1) / kTile * kTile;
}

template <class T>
struct ForwardView {
  cuda::Rows<const T> q, k, v;
  cuda::Rows<T> out;
  float* lse;
  unsigned* ticket;  // which attend_by_turns() counts with
  Sequences sequences;
  int64_t tokens;
  AttentionShape shape;
};

// Of RopeArgs, half of a head a row; none where cos is null.
struct Rotation {
  const int32_t* positions;
  const float *cos, *sin;
  int last;  // row of the tables
};

template <class T>
struct BackwardView {
  cuda::Rows<const T> q, k, v, out, dout;
  cuda::Rows<T> dq, dk, dv;
  const float* lse;
  float* delta;     // [heads, tokens]: sum of dout * out
  std::byte* room;  // one_pass_bytes(), after delta
  Sequences sequences;
  int64_t tokens;
  AttentionShape shape;
  Rotation rotation;  // of q and k, where kernels turn dq and dk back as they write them
};

// On tensor cores, for bf16 rows of 16-byte pieces and heads of at most 128.
void attend_on_tensor_cores(const ForwardView<cuda::bf16>& view, int64_t capacity);
void attend_backward_on_tensor_cores(const BackwardView<cuda::bf16>& view,
                                     int64_t capacity);  // delta is there, where it has to be
// The same by Hopper's warpgroups; false, and nothing is launched, on another GPU.
bool attend_by_warpgroups(const ForwardView<cuda::bf16>& view, int64_t capacity);
bool attend_backward_by_warpgroups(const BackwardView<cuda::bf16>& view, int64_t capacity);
// The former by blocks that stay, of two or three warpgroups. ticket has to be there.
void attend_by_turns(const ForwardView<cuda::bf16>& view, int64_t capacity);
// The latter in one walk over the pairs, and the memory that it needs on this GPU.
void attend_backward_in_one_pass(const BackwardView<cuda::bf16>& view, int64_t capacity);
// Whether those need no deltas beforehand, and whether they turn dq and dk back.
bool warpgroups_sum_deltas(const BackwardView<cuda::bf16>& view, int64_t capacity);
bool warpgroups_turn_back(const AttentionBackwardArgs& args);
size_t one_pass_bytes(const AttentionShape& shape, int64_t tokens);

}  // namespace flagscale::op
