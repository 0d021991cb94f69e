// Attention's backward pass in one walk, for Hopper: scores are formed once, as FlashAttention 3 does. A
// block owns 128 keys of one kv head, 64 of each of two warpgroups, and walks down over the tiles of queries
// that see them, the heads of the group for each. dk and dv stay in registers. dq is the sum of what the
// blocks of a sequence's keys give: each adds its part in memory after the blocks of earlier keys, so the
// order is fixed and runs repeat bit for bit. A block waits for blocks with earlier tickets only, which have
// started, so one of them can always go on. All walk down from the last queries, and so follow one another.
#include <algorithm>

#include "op/attention/attention_one_pass_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;
using namespace one_pass;

// The lane's pairs of columns of eight, of a row of numbers in shared memory.
template <int kN>
__device__ void read_pairs(float2 (&to)[kN / 8], const float* from, int lane) {
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) to[j] = *reinterpret_cast<const float2*>(from + j * 8 + lane % 4 * 2);
}
__device__ inline float of_pair(float2 pair, int i) { return i % 2 == 0 ? pair.x : pair.y; }

template <int D>
__device__ void multiply_pairs(const BackwardView<bf16>& a, const Work& w, const Room<D>& room, Pipe& pipe,
                               const Statistics<D>& statistics, int group) {
  constexpr int kQ = kQueries<D>, kSpan = 64, kPitch = kKeys * kPanelColumns * int{sizeof(bf16)};
  const int lane = static_cast<int>(threadIdx.x) % 32,
            row_of_warp = static_cast<int>(threadIdx.x) % kGroup / 32 * 16,
            row = group * kGroupRows + row_of_warp, first = static_cast<int>(w.tile.first);
  const bf16 *k = room.k() + group * kGroupRows * kPanelColumns,
             *v = room.v() + group * kGroupRows * kPanelColumns;
  const float scale = a.shape.scale * kLog2e;
  const Sight sight(w.tile.length, a.shape);
  const auto release = [&](Barrier* b) {
    __syncwarp();
    if (lane == 0) arrive(b);
  };
  float dk[D / 8][4], dv[D / 8][4];
  Walk walk(w);
  wait(&pipe.k, 0);
  wait(&pipe.v, 0);
  for (int step = 0; step < w.steps; ++step, walk.next(w, kQ)) {
    const int stage = step % kStages, phase = step / kStages % 2, q0 = walk.q0;
    Fragment of_scores[kQ / 16];
    wait(&pipe.q[stage], phase);
    constexpr int kParts = kQ / kSpan;
    constexpr bool kAhead = kParts == 2;  // scores of the second part are under way beside the first one's
    float scores_of_part[kParts][kSpan / 8][4];  // transposed: a row is a key
    const auto begin_scores = [&](int part) {
      begin_products();
      scores_of<D, kSpan, kKeys, kQ>(scores_of_part[part], k, room.q(stage) + part * kSpan * kPanelColumns);
      commit_products();
    };
    begin_scores(0);
    wait(&pipe.dout[stage], phase);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int begin = part * kSpan;
      float slopes[kSpan / 8][4];
      auto& scores = scores_of_part[part];
      begin_products();
      scores_of<D, kSpan, kKeys, kQ>(slopes, v, room.dout(stage) + begin * kPanelColumns);
      commit_products();
      if (part == 0 && kAhead) begin_scores(1);
      float2 lse[kSpan / 8], delta[kSpan / 8];
      read_pairs<kSpan>(lse, statistics.lse[stage] + begin, lane);
      wait_for_products<kAhead ? 2 : 1>();
      settle(scores);
      if (part == 0 && step > 0) release(&pipe.q_read[stage ^ 1]);
      const auto at = [&](int j, int i) {
        return Element{q0 + begin + j * 8 + lane % 4 * 2 + i % 2, first + row + lane / 4 + i / 2 * 8,
                       of_pair(lse[j], i), 0.f};
      };
      const bool all =
          a.shape.window == 0 && q0 + begin >= first + row + 15 && q0 + begin + kSpan <= w.tile.length;
      all ? probabilities<true, kSpan>(scores, scale, sight, at)
          : probabilities<false, kSpan>(scores, scale, sight, at);
      Fragment weights[kSpan / 16];
      as_left_factors<kSpan>(weights, scores);
      begin_products();
      const uint64_t dout = down(room.dout(stage), begin, kQ * kPanelColumns * int{sizeof(bf16)});
#pragma unroll
      for (int n = 0; n < kSpan / 16; ++n)
        multiply<true>(dv, weights[n], after(dout, n * 16 * kPanelColumns), step > 0 || begin + n > 0);
      commit_products();
      read_pairs<kSpan>(delta, statistics.delta[stage] + begin, lane);
      part == 0 && kAhead ? wait_for_products<2>() : wait_for_products<1>();
      settle(slopes);
#pragma unroll
      for (int n = 0; n < kSpan / 16; ++n) {
#pragma unroll
        for (int j = 2 * n; j < 2 * n + 2; ++j)
#pragma unroll
          for (int i = 0; i < 4; ++i) slopes[j][i] = scores[j][i] * (slopes[j][i] - of_pair(delta[j], i));
        Fragment& of = of_scores[begin / 16 + n];
        as_left(of, slopes[2 * n], slopes[2 * n + 1]);
        const int piece = begin / 8 + 2 * n + lane / 16;
        store_matrices(
            room.slopes(stage) + piece / 8 * kKeys * kPanelColumns + in_panel(row + lane % 16, piece % 8),
            of);
      }
    }
    show_to_products();
    meet_groups();
    float dq[kColumns / 8][4];
    begin_products();
    const uint64_t left = down(room.slopes(stage) + (D == kColumns ? group * kKeys * kPanelColumns : 0), 0,
                               kPitch),
                   right = down(room.k() + (D == kColumns ? 0 : group * kKeys * kPanelColumns), 0, kPitch);
#pragma unroll
    for (int key = 0; key < kKeys; key += 16)
      multiply<true, true>(dq, after(left, key * kPanelColumns), after(right, key * kPanelColumns), key > 0);
    commit_products();
    mix<D, kQ>(dk, of_scores, room.q(stage), step > 0);
    commit_products();
    arrive(&pipe.statistics_read[stage]);  // every lane has read its own
    wait_for_products<2>();
    release(&pipe.dout_read[stage]);
    wait_for_products<1>();
    settle(dq);
    wait(&pipe.sums_read[group], step % 2 ^ 1);
    lay_out_sums(room.sums(group), dq, w.tile.begin + q0 + (D == kColumns ? group * kGroupRows : 0),
                 row_of_warp, lane);
    show_to_products();
    release(&pipe.sums[group]);
  }
  wait_for_products<0>();
  settle(dv);
  settle(dk);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t key = w.tile.first + row + lane / 4 + half * 8, column = int64_t{w.kv} * a.shape.head_dim;
    const bool there = key < w.tile.length;
    if (there && a.rotation.cos) turn_back<D>(dk, half, a.rotation, w.tile.begin + key, lane);
    put_wide_row<D>(there ? a.dk[w.tile.begin + key] + column : nullptr, dk, half, a.shape.scale, lane,
                    a.shape.head_dim);
    put_wide_row<D>(there ? a.dv[w.tile.begin + key] + column : nullptr, dv, half, 1.f, lane,
                    a.shape.head_dim);
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    backward_of_pairs(const __grid_constant__ Maps maps, BackwardView<bf16> a, Turns turns) {
#ifdef FLAGSCALE_HOPPER
  extern __shared__ uint8_t memory[];
  __shared__ Pipe pipe;
  __shared__ Statistics<D> statistics;
  __shared__ int ticket;
  if (threadIdx.x == 0) {
    ticket = atomicAdd(turns.ticket, 1);
    pipe.init();
  }
  __syncthreads();
  const Work work = work_of<kQueries<D>>(ticket, turns, a);
  if (work.tile.length == 0) return;
  const Room<D> room{on_boundary(memory)};
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0), group = warp / 4 - 1;
  if (group < 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (warp == 0) bring<D>(maps, a, work, room, pipe, statistics);
    if (warp >= 1 && warp <= kGroups && threadIdx.x % 32 == 0)
      add_parts<D>(a, turns, work, room, pipe, warp - 1);
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  multiply_pairs<D>(a, work, room, pipe, statistics, group);
#else
  __trap();
#endif
}

// dq from its sums: a lane's quarter of a head's row.
template <int D>
__global__ void round_sums(BackwardView<bf16> a, const float* sums) {
  constexpr int kPlanes = D / kColumns;
  const int lane = static_cast<int>(threadIdx.x) % 32, head = static_cast<int>(blockIdx.y);
  const int64_t token = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 4;
  const bool there = token < a.sequences.ends[a.sequences.count];
  float dq[D / 8][4] = {};
  if (there) {
#pragma unroll
    for (int piece = 0; piece < D / 16; ++piece) {
      const int plane = head * kPlanes + piece / (kColumns / 16), couple = piece % (kColumns / 16);
      const float4 x = *reinterpret_cast<const float4*>(sums + (plane * a.tokens + token) * kColumns +
                                                        place_of(token, couple, lane % 4));
      dq[2 * piece][0] = x.x, dq[2 * piece][1] = x.y, dq[2 * piece + 1][0] = x.z, dq[2 * piece + 1][1] = x.w;
    }
    if (a.rotation.cos) turn_back<D>(dq, 0, a.rotation, token, lane);
  }
  bf16* to = there ? a.dq[token] + head * a.shape.head_dim : nullptr;
  put_wide_row<D>(to, dq, 0, a.shape.scale, lane, a.shape.head_dim);
}

size_t on_pack(size_t bytes) { return (bytes + 255) / 256 * 256; }

// The workspace after the deltas: the ticket and the turns, then sums.
template <int D>
struct Layout {
  int64_t tiles;
  size_t turns, sums;  // bytes
  Layout(const AttentionShape& shape, int64_t tokens)
      : tiles(divide_up(tokens, kQueries<D>)),
        turns(on_pack(static_cast<size_t>(shape.heads * tiles * kGroups + 1) * sizeof(int))),
        sums(static_cast<size_t>(shape.heads * tokens * D) * sizeof(float)) {}
};

template <int D>
void backward(const BackwardView<bf16>& view, int64_t tokens) {
  constexpr int kQ = kQueries<D>;
  const AttentionShape& s = view.shape;
  std::byte* room = view.room;
  const Layout<D> layout(s, view.tokens);
  const int key_tiles = static_cast<int>(most_tiles<kKeys>(tokens, view.sequences.count)),
            group = s.heads / s.kv_heads;
  // Blocks that follow one another in a sequence start some four steps apart, were all as long as the
  // average; where blocks are few, those of all heads begin with the longest.
  const int64_t tiles_each = divide_up(tokens, view.sequences.count * kKeys),
                wanted = int64_t{key_tiles} * s.kv_heads < 3 * processors()
                             ? s.kv_heads
                             : std::clamp<int64_t>(4 * processors() * kQ / (64 * tiles_each * group), 1,
                                                   s.kv_heads),
                sets = divide_up(s.kv_heads, wanted);
  Turns turns{reinterpret_cast<float*>(room + layout.turns),
              reinterpret_cast<int*>(room) + 1,
              reinterpret_cast<int*>(room),
              layout.tiles,
              key_tiles,
              static_cast<int>(divide_up(s.kv_heads, sets))};
  cudaMemsetAsync(room, 0, layout.turns, cudaStreamPerThread);
  const auto kernel = backward_of_pairs<D>;
  static const bool once = (allow_shared("attention_backward", kernel, Room<D>::kBytes), true);
  (void)once;
  kernel<<<static_cast<unsigned>(key_tiles * s.kv_heads), kThreads, Room<D>::kBytes>>>(
      maps_of(view, tokens, kQ, kKeys), view, turns);
  check_launch("attention_backward");
  constexpr int kRound = 256;
  round_sums<D><<<dim3(static_cast<unsigned>(divide_up(tokens * 4, kRound)), static_cast<unsigned>(s.heads)),
                  kRound>>>(view, turns.sums);
  check_launch("attention_backward");
}

}  // namespace

size_t one_pass_bytes(const AttentionShape& shape, int64_t tokens) {
  if (!on_hopper()) return 0;
  const auto of = [](const auto& layout) { return layout.turns + layout.sums; };
  return shape.head_dim <= 64 ? of(Layout<64>(shape, tokens)) : of(Layout<128>(shape, tokens));
}

void attend_backward_in_one_pass(const BackwardView<bf16>& view, int64_t capacity) {
  view.shape.head_dim <= 64 ? backward<64>(view, capacity) : backward<128>(view, capacity);
}

}  // namespace flagscale::op
