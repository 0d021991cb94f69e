#pragma once
// Of attention's forward pass by warpgroups (attention_forward_cuda.cu): which rows a block has next, what
// lies where, and the warp that brings tiles.

#include "op/attention/attention_warpgroup_cuda.cuh"

namespace flagscale::op::forward_pass {
using namespace cuda;

constexpr int kGroup = 128, kStages = 2;

// How rows and keys are cut, and how many registers the warp that brings and the others have.
template <int kDim>
struct Cut {
  static constexpr int D = kDim, kGroups = D == 64 ? 3 : 2, kKeys = 128, kRows = kGroups * kGroupRows,
                       kThreads = (kGroups + 1) * kGroup;
  static constexpr int kFew = kGroups == 2 ? 56 : 32, kMany = kGroups == 2 ? 224 : 160;
};

template <class C>
struct Room {  // of a block
  bf16 q[C::kGroups][kNumbers<C::D, kGroupRows>];
  bf16 k[kStages][kNumbers<C::D, C::kKeys>], v[kStages][kNumbers<C::D, C::kKeys>];
};

struct Work {
  int begin, length, first, head;  // as of a Tile; length 0: nothing is left
};

// The keys that some row of a block sees, in whole tiles, which it walks down over.
template <class C>
struct Walk {
  int low, steps, top;  // top: the first key of the last tile
  __device__ Walk(const Work& w, const AttentionShape& shape)
      : low(static_cast<int>(first_key_tile<C::kKeys>(w.first, shape))),
        steps((min(w.first + C::kRows, w.length) - low + C::kKeys - 1) / C::kKeys),
        top(low + (steps - 1) * C::kKeys) {}
};

struct Pipe {
  Barrier q, q_read, k[kStages], k_read[kStages], v[kStages], v_read[kStages];
  Work work;  // there with q
  __device__ void init(int warps) {
    if (threadIdx.x == 0) {
      init_barrier(&q, 1), init_barrier(&q_read, warps);
      for (int i = 0; i < kStages; ++i) {
        init_barrier(&k[i], 1), init_barrier(&k_read[i], warps);
        init_barrier(&v[i], 1), init_barrier(&v_read[i], warps);
      }
      show_barriers();
    }
    __syncthreads();
  }
};

struct Place {  // of a tile among the stages
  int stage, phase;
  __device__ explicit Place(int step) : stage(step % kStages), phase(step / kStages % 2) {}
};

// Blocks take what is next: of heads_at_once heads all tiles, a sequence's longest first.
struct Order {
  unsigned* ticket;  // of what follows each block's first; null where nothing does
  int heads_at_once;
};

template <int kTile>
__device__ int count_tiles(const Sequences& s) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int tiles = 0;
  for (int64_t i = lane; i < s.count; i += 32) tiles += (s.ends[i + 1] - s.ends[i] + kTile - 1) / kTile;
  return __reduce_add_sync(0xffffffffu, tiles);
}

template <class C>
__device__ Work work_of(unsigned ticket, int tiles, const ForwardView<bf16>& a, const Order& order) {
  if (ticket >= static_cast<unsigned>(tiles) * static_cast<unsigned>(a.shape.heads)) return {};
  const int set_size = tiles * order.heads_at_once, set = static_cast<int>(ticket) / set_size,
            rest = static_cast<int>(ticket) % set_size, first = set * order.heads_at_once,
            heads = min(order.heads_at_once, a.shape.heads - first);
  const Tile tile = tile_of<C::kRows>(a.sequences, tiles - 1 - rest / heads);
  return {static_cast<int>(tile.begin), static_cast<int>(tile.length), static_cast<int>(tile.first),
          first + rest % heads};
}

// By one thread: what a block's warpgroups need for `w`; returns the steps until then.
template <class C>
__device__ int bring_tiles(const Maps& maps, const ForwardView<bf16>& a, const Work& w, Room<C>& room,
                           Pipe& pipe, int step) {
  constexpr int kBytes = bytes_of_rows<C::D>(C::kKeys);
  const Walk<C> walk(w, a.shape);
  const int kv = w.head / (a.shape.heads / a.shape.kv_heads);
  const auto bring = [&](bf16* to, const CUtensorMap& map, int k0, Barrier* full, Barrier* read, int phase) {
    wait(read, phase ^ 1);
    arrive_for_bytes(full, kBytes);
    fetch<C::D, C::kKeys>(to, map, w.begin + k0, kv, full);
  };
  const auto bring_keys = [&](int i) {
    const Place p(step + i);
    bring(room.k[p.stage], maps.k, walk.top - i * C::kKeys, &pipe.k[p.stage], &pipe.k_read[p.stage], p.phase);
  };
  const auto bring_values = [&](int i) {
    const Place p(step + i);
    bring(room.v[p.stage], maps.v, walk.top - i * C::kKeys, &pipe.v[p.stage], &pipe.v_read[p.stage], p.phase);
  };
  arrive_for_bytes(&pipe.q, bytes_of_rows<C::D>(C::kRows));
  for (int g = 0; g < C::kGroups; ++g)
    fetch<C::D, kGroupRows>(room.q[g], maps.q, w.begin + w.first + g * kGroupRows, w.head, &pipe.q);
  bring_keys(0);
#pragma unroll 1
  for (int i = 1; i < walk.steps; ++i) bring_keys(i), bring_values(i - 1);
  bring_values(walk.steps - 1);
  return step + walk.steps;
}

// By a warp.
template <class C>
__device__ void bring(const Maps& maps, const ForwardView<bf16>& a, const Order& order, Room<C>& room,
                      Pipe& pipe) {
  const int lane = static_cast<int>(threadIdx.x) % 32, tiles = count_tiles<C::kRows>(a.sequences);
  unsigned ticket = blockIdx.x;
  for (int step = 0, phase = 0;; phase ^= 1) {
    const Work w = work_of<C>(ticket, tiles, a, order);
    wait(&pipe.q_read, phase ^ 1);
    if (lane == 0) pipe.work = w;
    if (w.length == 0) {
      if (lane == 0) arrive(&pipe.q);
      return;
    }
    unsigned taken = 0;
    if (order.ticket && lane == 0) taken = atomicAdd(order.ticket, 1u);
    if (lane == 0) step = bring_tiles<C>(maps, a, w, room, pipe, step);
    ticket = gridDim.x + (order.ticket ? __shfl_sync(0xffffffffu, taken, 0) : blockIdx.x);
  }
}

}  // namespace flagscale::op::forward_pass
