// Flash attention by Hopper's warpgroups: what attention_mma_cuda.cu does, with wgmma. A block, one
// warpgroup, owns 64 rows of the result, queries or keys, and walks along the other side, whose tiles the
// copy engine brings; several blocks share a multiprocessor, so that one's exponentials run beside another's
// products. Rows beyond a sequence are the next one's, and count as unseen. Every sum has one owner and one
// order: runs repeat bit for bit.
#include "op/attention/attention_warpgroup_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 128, kOwn = kGroupRows;
constexpr int kSmall = 64;        // heads for which short sequences go other ways than long ones
constexpr int64_t kLong = 2048;   // tokens of the average sequence, for those heads
constexpr int64_t kMedium = 256;  // the same for larger heads' forward pass

// Two stages of pairs of tiles, and what is there from the start.
struct Arrivals {
  Barrier own, of_stage[2];
  __device__ void init() {
    if (threadIdx.x == 0) {
      init_barrier(&own, 1), init_barrier(&of_stage[0], 1), init_barrier(&of_stage[1], 1);
      show_barriers();
    }
    __syncthreads();
  }
};

template <int D>
__global__ void __launch_bounds__(kThreads, D == 64 ? 4 : 3)
    attend(const __grid_constant__ Maps maps, ForwardView<bf16> a) {
#ifdef FLAGSCALE_HOPPER
  constexpr int kKeys = 64, kTileSize = kNumbers<D, kKeys>;
  extern __shared__ uint8_t memory[];
  __shared__ Arrivals arrivals;
  bf16* q = on_boundary(memory);  // then k and v, twice
  const Tile tile =
      tile_of<kOwn>(a.sequences, int64_t{gridDim.x} - 1 - blockIdx.x);  // the longest rows first
  if (tile.length == 0) return;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  const int kv = head / (a.shape.heads / a.shape.kv_heads);
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto keys_at = [&](int stage) { return q + kNumbers<D, kOwn> + 2 * stage * kTileSize; };
  const int64_t begin = first_key_tile<kKeys>(tile.first, a.shape);
  const int64_t last = tile.first + kOwn < tile.length ? tile.first + kOwn : tile.length;
  const auto fetch_keys = [&](int64_t k0, int stage) {
    if (threadIdx.x != 0 || k0 >= last) return;
    arrive_for_bytes(&arrivals.of_stage[stage], 2 * bytes_of_rows<D>(kKeys));
    fetch<D, kKeys>(keys_at(stage), maps.k, tile.begin + k0, kv, &arrivals.of_stage[stage]);
    fetch<D, kKeys>(keys_at(stage) + kTileSize, maps.v, tile.begin + k0, kv, &arrivals.of_stage[stage]);
  };
  arrivals.init();
  if (threadIdx.x == 0) {
    arrive_for_bytes(&arrivals.own, bytes_of_rows<D>(kOwn));
    fetch<D, kOwn>(q, maps.q, tile.begin + tile.first, head, &arrivals.own);
  }
  fetch_keys(begin, 0);
  fetch_keys(begin + kKeys, 1);

  const float scale = a.shape.scale * kLog2e;
  float mixed[D / 8][4] = {}, maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  wait(&arrivals.own, 0);
  int stage = 0, phase = 0;
  for (int64_t k0 = begin; k0 < last; k0 += kKeys, phase ^= stage, stage ^= 1) {
    wait(&arrivals.of_stage[stage], phase);
    float scores[kKeys / 8][4];
    begin_products();
    scores_of<D, kKeys>(scores, q, keys_at(stage));
    commit_products();
    wait_for_products<0>();
    settle(scores);
    if (k0 + kKeys > tile.first + row || a.shape.window > 0)
      hide_unseen<kKeys>(scores, static_cast<int>(tile.first) + row + lane / 4,
                         static_cast<int>(k0) + lane % 4 * 2, Sight(tile.length, a.shape));
    weigh_scores<D, kKeys>(scores, mixed, maximum, sum, scale);
    Fragment weights[kKeys / 16];
    as_left_factors<kKeys>(weights, scores);
    begin_products();
    mix<D, kKeys>(mixed, weights, keys_at(stage) + kTileSize);
    commit_products();
    wait_for_products<0>();
    settle(mixed);
    __syncthreads();  // the stage is read
    fetch_keys(k0 + 2 * kKeys, stage);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = tile.first + row + lane / 4 + half * 8;
    const float total = over_row(sum[half], false);
    if (query >= tile.length) continue;
    put_row<D>(a.out[tile.begin + query] + int64_t{head} * dim, mixed, half, 1.f / total, lane, dim);
    if (lane % 4 == 0)
      a.lse[int64_t{head} * a.tokens + tile.begin + query] = maximum[half] * a.shape.scale + logf(total);
  }
#else
  __trap();
#endif
}

// The lane's quarter of the sum of dout * out over a row of a head, which `to` gets from one of the four.
__device__ float sum_delta(const BackwardView<bf16>& a, int64_t token, int head, bool there, int lane) {
  float sum = 0;
#pragma unroll
  for (int d = lane % 4 * 16; d < lane % 4 * 16 + 16; d += 8)
    if (there && d < a.shape.head_dim) {
      float out[8], dout[8];
      load(a.out[token] + head * a.shape.head_dim + d, out);
      load(a.dout[token] + head * a.shape.head_dim + d, dout);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum = fmaf(out[i], dout[i], sum);
    }
  return over_row(sum, false);
}

// The backward pass in two walks, for queries and for keys, each forming the scores again; the first one
// leaves the second its deltas.
__global__ void __launch_bounds__(kThreads, 3)
    backward_of_queries(const __grid_constant__ Maps maps, BackwardView<bf16> a) {
#ifdef FLAGSCALE_HOPPER
  constexpr int D = kSmall, kKeys = 64, kTileSize = kNumbers<D, kKeys>;
  extern __shared__ uint8_t memory[];
  __shared__ Arrivals arrivals;
  bf16 *q = on_boundary(memory), *dout = q + kNumbers<D, kOwn>;  // then k and v, twice
  const Tile tile = tile_of<kOwn>(a.sequences, int64_t{gridDim.x} - 1 - blockIdx.x);
  if (tile.length == 0) return;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  const int kv = head / (a.shape.heads / a.shape.kv_heads);
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto keys_at = [&](int stage) { return dout + kNumbers<D, kOwn> + 2 * stage * kTileSize; };
  const int64_t begin = first_key_tile<kKeys>(tile.first, a.shape);
  const int64_t last = tile.first + kOwn < tile.length ? tile.first + kOwn : tile.length;
  const auto fetch_keys = [&](int64_t k0, int stage) {
    if (threadIdx.x != 0 || k0 >= last) return;
    arrive_for_bytes(&arrivals.of_stage[stage], 2 * bytes_of_rows<D>(kKeys));
    fetch<D, kKeys>(keys_at(stage), maps.k, tile.begin + k0, kv, &arrivals.of_stage[stage]);
    fetch<D, kKeys>(keys_at(stage) + kTileSize, maps.v, tile.begin + k0, kv, &arrivals.of_stage[stage]);
  };
  arrivals.init();
  if (threadIdx.x == 0) {
    arrive_for_bytes(&arrivals.own, 2 * bytes_of_rows<D>(kOwn));
    fetch<D, kOwn>(q, maps.q, tile.begin + tile.first, head, &arrivals.own);
    fetch<D, kOwn>(dout, maps.dout, tile.begin + tile.first, head, &arrivals.own);
  }
  fetch_keys(begin, 0);
  fetch_keys(begin + kKeys, 1);

  const float scale = a.shape.scale * kLog2e;
  float lse[2] = {}, delta[2] = {}, dq[D / 8][4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = tile.first + row + lane / 4 + half * 8,
                  at = int64_t{head} * a.tokens + tile.begin + query;
    const bool there = query < tile.length;
    delta[half] = sum_delta(a, tile.begin + query, head, there, lane);
    if (!there) continue;
    lse[half] = a.lse[at] * kLog2e;
    if (lane % 4 == 0) a.delta[at] = delta[half];
  }
  wait(&arrivals.own, 0);
  int stage = 0, phase = 0;
  for (int64_t k0 = begin; k0 < last; k0 += kKeys, phase ^= stage, stage ^= 1) {
    wait(&arrivals.of_stage[stage], phase);
    float scores[kKeys / 8][4], slopes[kKeys / 8][4];
    begin_products();
    scores_of<D, kKeys>(scores, q, keys_at(stage));
    commit_products();
    scores_of<D, kKeys>(slopes, dout, keys_at(stage) + kTileSize);
    commit_products();
    wait_for_products<1>();
    settle(scores);
    const auto at = [&](int j, int i) {
      return Element{static_cast<int>(tile.first) + row + lane / 4 + i / 2 * 8,
                     static_cast<int>(k0) + j * 8 + lane % 4 * 2 + i % 2, lse[i / 2], delta[i / 2]};
    };
    const bool all =
        a.shape.window == 0 && k0 + kKeys <= tile.first + row + 1 && tile.first + row + 16 <= tile.length;
    all ? probabilities<true, kKeys>(scores, scale, Sight(tile.length, a.shape), at)
        : probabilities<false, kKeys>(scores, scale, Sight(tile.length, a.shape), at);
    wait_for_products<0>();
    settle(slopes);
    slopes_of_scores<kKeys>(slopes, scores, at);
    Fragment weights[kKeys / 16];
    as_left_factors<kKeys>(weights, slopes);
    begin_products();
    mix<D, kKeys>(dq, weights, keys_at(stage));
    commit_products();
    wait_for_products<0>();
    settle(dq);
    __syncthreads();  // the stage is read
    fetch_keys(k0 + 2 * kKeys, stage);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = tile.first + row + lane / 4 + half * 8;
    if (query >= tile.length) continue;
    if (a.rotation.cos) turn_back<D>(dq, half, a.rotation, tile.begin + query, lane);
    put_row<D>(a.dq[tile.begin + query] + int64_t{head} * dim, dq, half, a.shape.scale, lane, dim);
  }
#else
  __trap();
#endif
}

__global__ void __launch_bounds__(kThreads, 3)
    backward_of_keys(const __grid_constant__ Maps maps, BackwardView<bf16> a) {
#ifdef FLAGSCALE_HOPPER
  constexpr int D = kSmall, kQueries = 64, kTileSize = kNumbers<D, kQueries>;
  extern __shared__ uint8_t memory[];
  __shared__ Arrivals arrivals;
  bf16 *k = on_boundary(memory), *v = k + kNumbers<D, kOwn>;  // then q and dout, twice
  __shared__ float lse[2][kQueries], delta[2][kQueries];
  const Tile tile = tile_of<kOwn>(a.sequences, blockIdx.x);
  if (tile.length == 0) return;
  const int group = a.shape.heads / a.shape.kv_heads, dim = a.shape.head_dim;
  const int kv = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int64_t end = a.shape.window > 0 && tile.first + kOwn - 1 + a.shape.window < tile.length
                          ? tile.first + kOwn - 1 + a.shape.window
                          : tile.length;
  const int steps = static_cast<int>((end - tile.first + kQueries - 1) / kQueries), all_steps = steps * group;
  const auto queries_at = [&](int stage) { return v + kNumbers<D, kOwn> + 2 * stage * kTileSize; };
  const auto fetch_queries = [&](int step, int stage) {
    if (step >= all_steps) return;
    const int head = kv * group + step / steps;
    const int64_t q0 = tile.first + step % steps * kQueries, query = q0 + threadIdx.x;
    if (threadIdx.x < kQueries) {
      const int64_t at = int64_t{head} * a.tokens + tile.begin + query;
      lse[stage][threadIdx.x] = query < tile.length ? a.lse[at] * kLog2e : 0.f;
      delta[stage][threadIdx.x] = query < tile.length ? a.delta[at] : 0.f;
    }
    if (threadIdx.x != 0) return;
    arrive_for_bytes(&arrivals.of_stage[stage], 2 * bytes_of_rows<D>(kQueries));
    fetch<D, kQueries>(queries_at(stage), maps.q, tile.begin + q0, head, &arrivals.of_stage[stage]);
    fetch<D, kQueries>(queries_at(stage) + kTileSize, maps.dout, tile.begin + q0, head,
                       &arrivals.of_stage[stage]);
  };
  arrivals.init();
  if (threadIdx.x == 0) {
    arrive_for_bytes(&arrivals.own, 2 * bytes_of_rows<D>(kOwn));
    fetch<D, kOwn>(k, maps.k, tile.begin + tile.first, kv, &arrivals.own);
    fetch<D, kOwn>(v, maps.v, tile.begin + tile.first, kv, &arrivals.own);
  }
  fetch_queries(0, 0);
  fetch_queries(1, 1);
  __syncthreads();  // lse and delta are there

  const float scale = a.shape.scale * kLog2e;
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  wait(&arrivals.own, 0);
  int stage = 0, phase = 0;
  for (int step = 0; step < all_steps; ++step, phase ^= stage, stage ^= 1) {
    wait(&arrivals.of_stage[stage], phase);
    const int64_t q0 = tile.first + step % steps * kQueries;
    float scores[kQueries / 8][4], slopes[kQueries / 8][4];  // transposed: a row is a key
    begin_products();
    scores_of<D, kQueries>(scores, k, queries_at(stage));
    commit_products();
    scores_of<D, kQueries>(slopes, v, queries_at(stage) + kTileSize);
    commit_products();
    wait_for_products<1>();
    settle(scores);
    const auto at = [&](int j, int i) {
      const int q = j * 8 + lane % 4 * 2 + i % 2;
      return Element{static_cast<int>(q0) + q, static_cast<int>(tile.first) + row + lane / 4 + i / 2 * 8,
                     lse[stage][q], delta[stage][q]};
    };
    const bool all = a.shape.window == 0 && q0 >= tile.first + row + 15 && q0 + kQueries <= tile.length;
    all ? probabilities<true, kQueries>(scores, scale, Sight(tile.length, a.shape), at)
        : probabilities<false, kQueries>(scores, scale, Sight(tile.length, a.shape), at);
    wait_for_products<0>();
    settle(slopes);
    slopes_of_scores<kQueries>(slopes, scores, at);
    Fragment weights[kQueries / 16], of_scores[kQueries / 16];
    as_left_factors<kQueries>(weights, scores);
    as_left_factors<kQueries>(of_scores, slopes);
    begin_products();
    mix<D, kQueries>(dv, weights, queries_at(stage) + kTileSize);
    mix<D, kQueries>(dk, of_scores, queries_at(stage));
    commit_products();
    wait_for_products<0>();
    settle(dv);
    settle(dk);
    __syncthreads();  // the stage is read
    fetch_queries(step + 2, stage);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t key = tile.first + row + lane / 4 + half * 8;
    if (key >= tile.length) continue;
    if (a.rotation.cos) turn_back<D>(dk, half, a.rotation, tile.begin + key, lane);
    put_row<D>(a.dk[tile.begin + key] + int64_t{kv} * dim, dk, half, a.shape.scale, lane, dim);
    put_row<D>(a.dv[tile.begin + key] + int64_t{kv} * dim, dv, half, 1.f, lane, dim);
  }
#else
  __trap();
#endif
}

// own: tiles of kOwn rows; shared: of `rows` rows, in two stages.
template <int D>
constexpr int bytes_of(int own, int shared, int rows) {
  return (own * kOwn + 2 * shared * rows) * D * static_cast<int>(sizeof(bf16)) + 1024;
}

template <class View>
void launch(const char* op, void (*kernel)(Maps, View), dim3 grid, int bytes, const Maps& maps,
            const View& view) {
  allow_shared(op, kernel, static_cast<size_t>(bytes));
  kernel<<<grid, kThreads, static_cast<size_t>(bytes)>>>(maps, view);
  check_launch(op);
}

template <int D>
void forward(const ForwardView<bf16>& view, int64_t tokens) {
  const dim3 grid(most_tiles<kOwn>(tokens, view.sequences.count), static_cast<unsigned>(view.shape.heads));
  launch("attention", attend<D>, grid, bytes_of<D>(1, 2, 64), maps_of(view, tokens, kOwn, 64), view);
}

void backward(const BackwardView<bf16>& view, int64_t tokens) {
  const unsigned tiles = most_tiles<kOwn>(tokens, view.sequences.count);
  launch("attention_backward", backward_of_queries, dim3(tiles, static_cast<unsigned>(view.shape.heads)),
         bytes_of<kSmall>(2, 2, 64), maps_of(view, tokens, kOwn, 64), view);
  launch("attention_backward", backward_of_keys, dim3(tiles, static_cast<unsigned>(view.shape.kv_heads)),
         bytes_of<kSmall>(2, 2, 64), maps_of(view, tokens, 64, kOwn), view);
}

// Where sequences are short, tiles of 128 rows or more by 128 keys have too much that nobody sees.
bool by_turns(const ForwardView<bf16>& view, int64_t capacity) {
  const int64_t enough = view.shape.head_dim > kSmall ? kMedium : kLong;
  return capacity >= enough * view.sequences.count;
}

// Of short sequences with small heads, blocks that own 128 keys take too long to begin and to end.
bool in_two_walks(const BackwardView<bf16>& view, int64_t capacity) {
  return view.shape.head_dim <= kSmall && capacity < kLong * view.sequences.count;
}

}  // namespace

bool attend_by_warpgroups(const ForwardView<bf16>& view, int64_t capacity) {
  if (!on_hopper()) return false;
  if (by_turns(view, capacity))
    attend_by_turns(view, capacity);
  else
    view.shape.head_dim <= kSmall ? forward<kSmall>(view, capacity) : forward<128>(view, capacity);
  return true;
}

bool warpgroups_turn_back(const AttentionBackwardArgs& args) {
  const int dim = args.shape.head_dim;
  return on_hopper() && (dim == 64 || dim == 128) && !args.interleaved && args.cos.cols() * 2 == dim;
}

bool warpgroups_sum_deltas(const BackwardView<bf16>& view, int64_t capacity) {
  return on_hopper() && in_two_walks(view, capacity);
}

bool attend_backward_by_warpgroups(const BackwardView<bf16>& view, int64_t capacity) {
  if (!on_hopper()) return false;
  in_two_walks(view, capacity) ? backward(view, capacity) : attend_backward_in_one_pass(view, capacity);
  return true;
}

}  // namespace flagscale::op
