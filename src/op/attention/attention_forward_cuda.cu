// Attention's forward pass for Hopper, as FlashAttention 3 does it. A block stays on its multiprocessor and
// takes tiles of rows: one warp brings tiles, on to the next rows' while the last ones are worked on, and two
// or three warpgroups have 64 rows each. They walk down over the keys; the next tile's scores and this one's
// values are multiplied while a warpgroup weighs scores, and warpgroups take turns at that, so that one's
// exponentials run beside another's products. Rows beyond a sequence are the next one's, and count as unseen.
// Every sum has one owner and one order: runs repeat bit for bit.
#include <algorithm>

#include "op/attention/attention_forward_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;
using namespace forward_pass;

// A warpgroup issues products after the one before it, each once a step.
template <class C>
struct Turns {
  int group;
  __device__ explicit Turns(int of_group) : group(of_group) {
    if (group == C::kGroups - 1) give();
  }
  __device__ void take() const { asm volatile("bar.sync %0, 256;" ::"r"(group + 1) : "memory"); }
  __device__ void give() const {
    asm volatile("bar.arrive %0, 256;" ::"r"((group + 1) % C::kGroups + 1) : "memory");
  }
};

// Scores become weights relative to the maximum so far; what came before is to shrink.
template <class C>
__device__ __forceinline__ void weigh(float (&scores)[C::kKeys / 8][4], float (&maximum)[2], float (&sum)[2],
                                      float (&shrink)[2], float scale) {
  float shift[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float high[2] = {maximum[half], -INFINITY};
#pragma unroll
    for (int j = 0; j < C::kKeys / 8; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) high[i] = fmaxf(high[i], scores[j][2 * half + i]);
    const float most = over_row(fmaxf(high[0], high[1]), true);
    shift[half] = most == -INFINITY ? 0.f : most * scale;
    shrink[half] = power_of_two(maximum[half] * scale - shift[half]);
    maximum[half] = most;
    sum[half] *= shrink[half];
  }
#pragma unroll
  for (int j = 0; j < C::kKeys / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[j][i] = power_of_two(scores[j][i] * scale - shift[i / 2]);
      sum[i / 2] += scores[j][i];
    }
}

// Scores of keys after `last` or before `first` become -infinity; both of the lane's first row, from its
// first key.
template <int kKeys>
__device__ __forceinline__ void hide_after(float (&scores)[kKeys / 8][4], int last) {
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (j * 8 + i % 2 - i / 2 * 8 > last) scores[j][i] = -INFINITY;
}
template <int kKeys>
__device__ __forceinline__ void hide_before(float (&scores)[kKeys / 8][4], int first) {
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (j * 8 + i % 2 - i / 2 * 8 < first) scores[j][i] = -INFINITY;
}

// The rows of one warpgroup.
template <class C>
__device__ __forceinline__ void attend_rows(const ForwardView<bf16>& a, const Room<C>& room, Pipe& pipe,
                                            int group) {
  constexpr int D = C::D, kKeys = C::kKeys;
  const int lane = static_cast<int>(threadIdx.x) % 32,
            row_of_warp = static_cast<int>(threadIdx.x) % kGroup / 32 * 16;
  const float scale = a.shape.scale * kLog2e;
  const int window = static_cast<int>(a.shape.window);
  const bf16* q = room.q[group];
  const Turns<C> turns(group);
  const auto release = [&](Barrier* b) {
    __syncwarp();
    if (lane == 0) arrive(b);
  };
  int step = 0;
  for (int phase = 0;; phase ^= 1) {
    wait(&pipe.q, phase);
    const Work w = pipe.work;
    if (w.length == 0) return;
    const Walk<C> walk(w, a.shape);
    const int own = w.first + group * kGroupRows, row = own + row_of_warp;
    int left = walk.steps, k0 = walk.top;
    for (; left > 0 && (own >= w.length || k0 >= own + kGroupRows); --left, k0 -= kKeys, ++step) {
      const Place p(step);
      wait(&pipe.k[p.stage], p.phase);
      release(&pipe.k_read[p.stage]);
      wait(&pipe.v[p.stage], p.phase);
      release(&pipe.v_read[p.stage]);
      if (left > 1) turns.take(), turns.give();
    }
    if (left == 0) {
      release(&pipe.q_read);
      continue;
    }
    float mixed[D / 8][4] = {}, scores[kKeys / 8][4];
    float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {}, shrink[2];
    Fragment weights[kKeys / 16];
    const auto hide = [&] {
      const int from = row + lane / 4 - k0 - lane % 4 * 2;
      if (k0 + kKeys > row + 1) hide_after<kKeys>(scores, from);
      if (window > 0 && k0 + window <= row + 15) hide_before<kKeys>(scores, from - window + 1);
    };
    const auto wait_for_keys = [&](int at, bool some) {
      const Place p(at);
      if (some) wait(&pipe.k[p.stage], p.phase);
    };
    Place now(step);
    wait(&pipe.k[now.stage], now.phase);
    begin_products();
    scores_of<D, kKeys>(scores, q, room.k[now.stage]);
    commit_products();
    wait_for_products<0>();
    settle(scores);
    release(&pipe.k_read[now.stage]);
    if (left == 1) release(&pipe.q_read);
    hide();
    weigh<C>(scores, maximum, sum, shrink, scale);
    wait_for_keys(step + 1, left > 1);
    as_left_factors<kKeys>(weights, scores);
    while (--left > 0) {
      const Place next(++step);
      k0 -= kKeys;
      turns.take();
      begin_products();
      scores_of<D, kKeys>(scores, q, room.k[next.stage]);
      commit_products();
      wait(&pipe.v[now.stage], now.phase);
      begin_products();
      mix<D, kKeys>(mixed, weights, room.v[now.stage]);
      commit_products();
      turns.give();
      wait_for_products<1>();
      settle(scores);
      release(&pipe.k_read[next.stage]);
      if (left == 1) release(&pipe.q_read);
      hide();
      weigh<C>(scores, maximum, sum, shrink, scale);
      settle(scores);
      wait_for_keys(step + 1, left > 1);  // which has the scores weighed before the values are waited for
      wait_for_products<0>();
      settle(mixed);
      release(&pipe.v_read[now.stage]);
      as_left_factors<kKeys>(weights, scores);
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) mixed[j][i] *= shrink[i / 2];
      now = next;
    }
    ++step;
    wait(&pipe.v[now.stage], now.phase);
    begin_products();
    mix<D, kKeys>(mixed, weights, room.v[now.stage]);
    commit_products();
    const float total[2] = {over_row(sum[0], false), over_row(sum[1], false)};
    wait_for_products<0>();
    settle(mixed);
    release(&pipe.v_read[now.stage]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = row + lane / 4 + half * 8, dim = a.shape.head_dim;
      const bool there = query < w.length;
      const int64_t token = int64_t{w.begin} + query;
      put_wide_row<D>(there ? a.out[token] + int64_t{w.head} * dim : nullptr, mixed, half, 1.f / total[half],
                      lane, dim);
      if (there && lane % 4 == 0)
        a.lse[int64_t{w.head} * a.tokens + token] = maximum[half] * a.shape.scale + logf(total[half]);
    }
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    attend_in_turns(const __grid_constant__ Maps maps, ForwardView<bf16> a, Order order) {
#ifdef FLAGSCALE_HOPPER
  extern __shared__ uint8_t memory[];
  __shared__ Pipe pipe;
  auto& room = *reinterpret_cast<Room<C>*>(on_boundary(memory));
  pipe.init(C::kGroups * kGroup / 32);
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kGroup, 0);
  if (group == C::kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(C::kFew));
    if (threadIdx.x < C::kGroups * kGroup + 32) bring<C>(maps, a, order, room, pipe);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(C::kMany));
    attend_rows<C>(a, room, pipe, group);
  }
#else
  __trap();
#endif
}

// Keys and values of heads_at_once heads of a sequence stay in the second-level cache.
int heads_at_once(const AttentionShape& s, int64_t tokens, int64_t sequences) {
  const int64_t room = int64_t{24} << 20, group = s.heads / s.kv_heads;
  const int64_t bytes = divide_up(tokens, std::max<int64_t>(sequences, 1)) * s.head_dim * 4;
  const int64_t wanted = std::clamp<int64_t>(room / std::max<int64_t>(bytes, 1), 1, s.kv_heads);
  return static_cast<int>(divide_up(s.kv_heads, divide_up(s.kv_heads, wanted)) * group);
}

template <int D>
void forward_in_turns(const ForwardView<bf16>& view, int64_t tokens) {
  using C = Cut<D>;
  constexpr size_t kBytes = sizeof(Room<C>) + 1024;
  allow_shared("attention", attend_in_turns<C>, kBytes);
  const int64_t most = int64_t{most_tiles<C::kRows>(tokens, view.sequences.count)} * view.shape.heads;
  Order order{nullptr, heads_at_once(view.shape, tokens, view.sequences.count)};
  if (most > processors()) {
    order.ticket = view.ticket;
    cudaMemsetAsync(order.ticket, 0, sizeof(unsigned), cudaStreamPerThread);
  }
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(most, processors()));
  attend_in_turns<C>
      <<<blocks, C::kThreads, kBytes>>>(maps_of(view, tokens, kGroupRows, C::kKeys), view, order);
  check_launch("attention");
}

}  // namespace

void attend_by_turns(const ForwardView<bf16>& view, int64_t capacity) {
  view.shape.head_dim <= 64 ? forward_in_turns<64>(view, capacity) : forward_in_turns<128>(view, capacity);
}

}  // namespace flagscale::op
