#pragma once
// Of attention's backward pass in one walk (attention_one_pass_cuda.cu): which keys a block owns and which
// queries it meets, what lies where, and the warps that bring tiles and add to dq.

#include "op/attention/attention_warpgroup_cuda.cuh"

namespace flagscale::op::one_pass {
using namespace cuda;

constexpr int kKeys = 128, kGroups = 2, kGroup = 128, kThreads = (kGroups + 1) * kGroup, kStages = 2;
constexpr int kColumns = 64;                  // of a row of sums in memory
constexpr int kSums = kGroupRows * kColumns;  // of one warpgroup's part of a tile's dq

template <int D>
constexpr int kQueries = D == 64 ? 128 : 64;  // of a step

// Shared by the blocks of a launch.
struct Turns {
  float* sums;   // dq before it is scaled: [heads * planes][tokens][kColumns]; a head has D / kColumns planes
  int* of_tile;  // [heads][tiles][kGroups]: how many blocks have added theirs
  int* ticket;
  int64_t tiles;
  int key_tiles, heads_at_once;
};

// Where the pairs of sums of one row lie: pieces of four floats, of two neighbours of eight columns each, for
// the `lane`th pair of columns; so that writing two rows touches every bank once.
__device__ inline int place_of(int64_t token, int couple, int lane) {
  return ((couple * 4 + lane) ^ static_cast<int>(token & 1) * 4) * 4;
}

// A block's keys, and what walks over them.
struct Work {
  Tile tile;
  int kv, group, top, steps;  // top: the first query of the last tile
};
struct Walk {
  int q0, member = 0;  // of the group of heads
  __device__ explicit Walk(const Work& w) : q0(w.top) {}
  __device__ int head(const Work& w) const { return w.kv * w.group + member; }
  __device__ void next(const Work& w, int queries) {
    if (++member == w.group) member = 0, q0 -= queries;
  }
};

// Blocks of heads_at_once kv heads alternate, those of the earliest keys, which walk longest, first.
template <int kQ>
__device__ Work work_of(int ticket, const Turns& turns, const BackwardView<bf16>& a) {
  const int set_size = turns.key_tiles * turns.heads_at_once, set = ticket / set_size,
            first = set * turns.heads_at_once, heads = min(turns.heads_at_once, a.shape.kv_heads - first),
            rest = ticket % set_size;
  Work w{tile_of<kKeys>(a.sequences, rest / heads), first + rest % heads, a.shape.heads / a.shape.kv_heads, 0,
         0};
  const int64_t last = w.tile.first + kKeys - 1 + a.shape.window;
  const int end = static_cast<int>(a.shape.window > 0 && last < w.tile.length ? last : w.tile.length);
  w.top = (end - 1) / kQ * kQ;
  w.steps = ((w.top - static_cast<int>(w.tile.first)) / kQ + 1) * w.group;
  return w;
}

struct Pipe {
  Barrier k, v, q[kStages], dout[kStages], q_read[kStages], dout_read[kStages], statistics_read[kStages],
      sums[kGroups], sums_read[kGroups];
  __device__ void init() {
    constexpr int kWarps = kGroups * kGroup / 32;
    init_barrier(&k, 1), init_barrier(&v, 1);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(&q[i], 32), init_barrier(&dout[i], 32);  // the lanes of the warp that brings them
      init_barrier(&q_read[i], kWarps), init_barrier(&dout_read[i], kWarps);
      init_barrier(&statistics_read[i], kGroups * kGroup);
    }
    for (int i = 0; i < kGroups; ++i)
      init_barrier(&sums[i], kWarps / kGroups), init_barrier(&sums_read[i], 1);
    show_barriers();
  }
};

template <int D>
struct Room {  // of a block
  static constexpr int kQ = kQueries<D>, kTile = D * kQ, kOfSlopes = kKeys * kQ;
  bf16* base;
  __device__ bf16* k() const { return base; }
  __device__ bf16* v() const { return base + D * kKeys; }
  __device__ bf16* q(int stage) const { return base + 2 * D * kKeys + stage * kTile; }
  __device__ bf16* dout(int stage) const { return q(kStages + stage); }
  __device__ bf16* slopes(int stage) const { return q(2 * kStages) + stage * kOfSlopes; }
  __device__ float* sums(int group) const {
    return reinterpret_cast<float*>(slopes(kStages)) + group * kSums;
  }
  static constexpr int kBytes =
      (2 * D * kKeys + 2 * kStages * kTile + kStages * kOfSlopes) * int{sizeof(bf16)} +
      kGroups * kSums * int{sizeof(float)} + 1024;
};

template <int D>
struct Statistics {
  float lse[kStages][kQueries<D>], delta[kStages][kQueries<D>];
};

// By a warp: keys and values, then queries and gradients of outputs, step by step.
template <int D>
__device__ void bring(const Maps& maps, const BackwardView<bf16>& a, const Work& w, const Room<D>& room,
                      Pipe& pipe, Statistics<D>& statistics) {
  constexpr int kQ = kQueries<D>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float lse[kQ / 32], delta[kQ / 32];
  const auto look = [&](const Walk& walk) {
#pragma unroll
    for (int i = 0; i < kQ / 32; ++i) {
      const int64_t query = walk.q0 + i * 32 + lane,
                    at = int64_t{walk.head(w)} * a.tokens + w.tile.begin + query;
      lse[i] = query < w.tile.length ? a.lse[at] * kLog2e : 0.f;
      delta[i] = query < w.tile.length ? a.delta[at] : 0.f;
    }
  };
  const auto tile_to = [&](bf16* to, const CUtensorMap& map, const Walk& walk, Barrier* b) {
    if (lane != 0) return arrive(b);
    arrive_for_bytes(b, bytes_of_rows<D>(kQ));
    fetch<D, kQ>(to, map, w.tile.begin + walk.q0, walk.head(w), b);
  };
  const auto keys_to = [&](bf16* to, const CUtensorMap& map, Barrier* b) {
    if (lane != 0) return;
    arrive_for_bytes(b, bytes_of_rows<D>(kKeys));
    fetch<D, kKeys>(to, map, w.tile.begin + w.tile.first, w.kv, b);
  };
  keys_to(room.k(), maps.k, &pipe.k);
  Walk walk(w);
  look(walk);
  for (int step = 0; step < w.steps; ++step) {
    const int stage = step % kStages, phase = step / kStages % 2;
    wait(&pipe.q_read[stage], phase ^ 1);
    wait(&pipe.statistics_read[stage], phase ^ 1);
#pragma unroll
    for (int i = 0; i < kQ / 32; ++i) statistics.lse[stage][i * 32 + lane] = lse[i];
    tile_to(room.q(stage), maps.q, walk, &pipe.q[stage]);
    if (step == 0) keys_to(room.v(), maps.v, &pipe.v);
    wait(&pipe.dout_read[stage], phase ^ 1);
#pragma unroll
    for (int i = 0; i < kQ / 32; ++i) statistics.delta[stage][i * 32 + lane] = delta[i];
    tile_to(room.dout(stage), maps.dout, walk, &pipe.dout[stage]);
    walk.next(w, kQ);
    if (step + 1 < w.steps) look(walk);
  }
}

// What this thread saw, or its copies wrote, is before what its copies write next, or others then see.
__device__ inline void order_copies() { asm volatile("fence.proxy.async;" ::: "memory"); }
__device__ inline void meet_groups() { asm volatile("bar.sync 1, %0;" ::"n"(kGroups * kGroup) : "memory"); }
__device__ inline int seen_by_all(const int* p) {
  int x;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
  return x;
}
__device__ inline void show_to_all(int* p, int x) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(p), "r"(x) : "memory");
}

// By one thread: a warpgroup's parts of dq, each in its turn. The first tile of queries has one part.
template <int D>
__device__ void add_parts(const BackwardView<bf16>& a, const Turns& turns, const Work& w, const Room<D>& room,
                          Pipe& pipe, int group) {
  constexpr int kQ = kQueries<D>;
  const int row = D == kColumns ? group * kGroupRows : 0;
  Walk walk(w);
  for (int step = 0; step < w.steps; ++step, walk.next(w, kQ)) {
    const int64_t token = w.tile.begin + walk.q0;
    const int head = walk.head(w), plane = D == kColumns ? head : head * (D / kColumns) + group;
    const int before = static_cast<int>(w.tile.first - first_key_tile<kKeys>(walk.q0, a.shape)) /
                       kKeys;  // blocks of earlier keys
    int* turn = turns.of_tile + (head * turns.tiles + token / kQ) * kGroups + group;
    while (before > 0 && seen_by_all(turn) != before) {
    }
    order_copies();
    wait(&pipe.sums[group], step % 2);
    const int rows = min(static_cast<int>(w.tile.length) - walk.q0 - row, kGroupRows);
    if (rows > 0) {
      float* to = turns.sums + (plane * a.tokens + token + row) * kColumns;
      const int bytes = rows * kColumns * int{sizeof(float)};
      before > 0 ? add_floats(to, room.sums(group), bytes) : put_floats(to, room.sums(group), bytes);
      commit_puts();
      wait_for_reads_of_puts();
    }
    arrive(&pipe.sums_read[group]);
    wait_for_puts();
    if (walk.q0 > 0) show_to_all(turn, before + 1);
  }
}

// A lane's sums of two rows, `half` one of them, as the bulk copies take them.
__device__ inline void lay_out_sums(float* to, const float (&dq)[kColumns / 8][4], int64_t token, int row,
                                    int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int couple = 0; couple < kColumns / 16; ++couple) {
      const int r = row + lane / 4 + half * 8;
      asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(
                       shared_address(to + r * kColumns + place_of(token + r, couple, lane % 4))),
                   "f"(dq[2 * couple][2 * half]), "f"(dq[2 * couple][2 * half + 1]),
                   "f"(dq[2 * couple + 1][2 * half]), "f"(dq[2 * couple + 1][2 * half + 1])
                   : "memory");
    }
}

}  // namespace flagscale::op::one_pass
