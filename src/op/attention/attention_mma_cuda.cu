// Flash attention on tensor cores: mma.m16n8k16 with bf16 factors and fp32 sums. A warp owns 16 rows of the
// result, queries or keys, and walks along the other side in tiles that the block shares, the next one copied
// meanwhile. The backward pass forms the scores twice, once for dq and once for dk and dv, so that every sum
// has one owner and one order: runs repeat bit for bit. Bound by arithmetic: 4 head_dim operations a visible
// pair forward, 14 backward.
#include "op/attention/attention_rows_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kWarps = 4, kThreads = 32 * kWarps, kOwn = 16 * kWarps;  // rows of the result of a block

// Starts copying rows [first, first + kRows) of a sequence, columns of one head, zeros outside.
template <int D, int kRows>
__device__ void fetch(bf16* to, Rows<const bf16> from, const Tile& tile, int64_t first, int64_t column,
                      int dim) {
  constexpr int kPieces = D / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, d = i % kPieces * 8;
    const bool there = first + row < tile.length && d < dim;
    copy_16_bytes(to + row * kPitchOf<D> + d, there ? from[tile.begin + first + row] + column + d : from.data,
                  there);
  }
}

// sum[kN / 8] += left rows [row, row + 16) times right^T, over D.
template <int D, int kN>
__device__ void scores_of(float (&sum)[kN / 8][4], const bf16* left, int row, const bf16* right, int lane) {
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    Fragment a;
    load_left(a, left, kPitchOf<D>, row, d, lane);
#pragma unroll
    for (int n = 0; n < kN; n += 16) {
      uint32_t b[4];
      load_right(b, right, kPitchOf<D>, n, d, lane);
      multiply_add(sum[n / 8], a, b[0], b[1]);
      multiply_add(sum[n / 8 + 1], a, b[2], b[3]);
    }
  }
}

// sum[D / 8] += weights, 16 x kN, times right, kN x D.
template <int D, int kN>
__device__ void mix(float (&sum)[D / 8][4], const float (&weights)[kN / 8][4], const bf16* right, int lane) {
#pragma unroll
  for (int n = 0; n < kN; n += 16) {
    Fragment a;
    as_left(a, weights[n / 8], weights[n / 8 + 1]);
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      uint32_t b[4];
      load_right_transposed(b, right, kPitchOf<D>, n, d, lane);
      multiply_add(sum[d / 8], a, b[0], b[1]);
      multiply_add(sum[d / 8 + 1], a, b[2], b[3]);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads) attend(ForwardView<bf16> a) {
  constexpr int kKeys = 64, kTileSize = kKeys * kPitchOf<D>;
  extern __shared__ __align__(16) bf16 memory[];
  bf16* q = memory;  // then k and v, twice
  const Tile tile =
      tile_of<kOwn>(a.sequences, int64_t{gridDim.x} - 1 - blockIdx.x);  // the longest rows first
  if (tile.length == 0) return;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  const int64_t kv = int64_t{head / (a.shape.heads / a.shape.kv_heads)} * dim;
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto keys_at = [&](int stage) { return q + kOwn * kPitchOf<D> + 2 * stage * kTileSize; };
  const auto fetch_keys = [&](int64_t k0, int stage) {
    fetch<D, kKeys>(keys_at(stage), a.k, tile, k0, kv, dim);
    fetch<D, kKeys>(keys_at(stage) + kTileSize, a.v, tile, k0, kv, dim);
  };
  const int64_t begin = first_key_tile<kKeys>(tile.first, a.shape);
  const int64_t last = tile.first + kOwn < tile.length ? tile.first + kOwn : tile.length;
  fetch<D, kOwn>(q, a.q, tile, tile.first, int64_t{head} * dim, dim);
  fetch_keys(begin, 0);
  commit_copies();

  const float scale = a.shape.scale * kLog2e;
  float mixed[D / 8][4] = {}, maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  int stage = 0;
  for (int64_t k0 = begin; k0 < last; k0 += kKeys, stage ^= 1) {
    if (k0 + kKeys < last) fetch_keys(k0 + kKeys, stage ^ 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    float scores[kKeys / 8][4] = {};
    scores_of<D, kKeys>(scores, q, row, keys_at(stage), lane);
    if (k0 + kKeys > tile.first + row || a.shape.window > 0)
      hide_unseen<kKeys>(scores, static_cast<int>(tile.first) + row + lane / 4,
                         static_cast<int>(k0) + lane % 4 * 2, Sight(tile.length, a.shape));
    weigh_scores<D, kKeys>(scores, mixed, maximum, sum, scale);
    mix<D, kKeys>(mixed, scores, keys_at(stage) + kTileSize, lane);
    __syncthreads();
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
}

// scores become probabilities, and slopes the gradients of the unscaled scores.
template <int kN, class At>
__device__ void backward_scores(float (&scores)[kN / 8][4], float (&slopes)[kN / 8][4], bool all, float scale,
                                const Sight& sees, At&& at) {
  all ? probabilities<true, kN>(scores, scale, sees, at) : probabilities<false, kN>(scores, scale, sees, at);
  slopes_of_scores<kN>(slopes, scores, at);
}

template <int D>
__global__ void __launch_bounds__(kThreads) backward_of_queries(BackwardView<bf16> a) {
  constexpr int kKeys = 32, kTileSize = kKeys * kPitchOf<D>;
  extern __shared__ __align__(16) bf16 memory[];
  bf16 *q = memory, *dout = q + kOwn * kPitchOf<D>;  // then k and v, twice
  const Tile tile = tile_of<kOwn>(a.sequences, int64_t{gridDim.x} - 1 - blockIdx.x);
  if (tile.length == 0) return;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  const int64_t kv = int64_t{head / (a.shape.heads / a.shape.kv_heads)} * dim;
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto keys_at = [&](int stage) { return dout + kOwn * kPitchOf<D> + 2 * stage * kTileSize; };
  const auto fetch_keys = [&](int64_t k0, int stage) {
    fetch<D, kKeys>(keys_at(stage), a.k, tile, k0, kv, dim);
    fetch<D, kKeys>(keys_at(stage) + kTileSize, a.v, tile, k0, kv, dim);
  };
  const int64_t begin = first_key_tile<kKeys>(tile.first, a.shape);
  const int64_t last = tile.first + kOwn < tile.length ? tile.first + kOwn : tile.length;
  fetch<D, kOwn>(q, a.q, tile, tile.first, int64_t{head} * dim, dim);
  fetch<D, kOwn>(dout, a.dout, tile, tile.first, int64_t{head} * dim, dim);
  fetch_keys(begin, 0);
  commit_copies();

  const float scale = a.shape.scale * kLog2e;
  float lse[2] = {}, delta[2] = {}, dq[D / 8][4] = {};
  for (int half = 0; half < 2; ++half) {
    const int64_t query = tile.first + row + lane / 4 + half * 8,
                  at = int64_t{head} * a.tokens + tile.begin + query;
    if (query < tile.length) lse[half] = a.lse[at] * kLog2e, delta[half] = a.delta[at];
  }
  int stage = 0;
  for (int64_t k0 = begin; k0 < last; k0 += kKeys, stage ^= 1) {
    if (k0 + kKeys < last) fetch_keys(k0 + kKeys, stage ^ 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    float scores[kKeys / 8][4] = {}, slopes[kKeys / 8][4] = {};
    scores_of<D, kKeys>(scores, q, row, keys_at(stage), lane);
    scores_of<D, kKeys>(slopes, dout, row, keys_at(stage) + kTileSize, lane);
    const auto at = [&](int j, int i) {
      return Element{static_cast<int>(tile.first) + row + lane / 4 + i / 2 * 8,
                     static_cast<int>(k0) + j * 8 + lane % 4 * 2 + i % 2, lse[i / 2], delta[i / 2]};
    };
    const bool all =
        a.shape.window == 0 && k0 + kKeys <= tile.first + row + 1 && tile.first + row + 16 <= tile.length;
    backward_scores<kKeys>(scores, slopes, all, scale, Sight(tile.length, a.shape), at);
    mix<D, kKeys>(dq, slopes, keys_at(stage), lane);
    __syncthreads();
  }
  for (int half = 0; half < 2; ++half) {
    const int64_t query = tile.first + row + lane / 4 + half * 8;
    if (query < tile.length)
      put_row<D>(a.dq[tile.begin + query] + int64_t{head} * dim, dq, half, a.shape.scale, lane, dim);
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads) backward_of_keys(BackwardView<bf16> a) {
  constexpr int kQueries = 32, kTileSize = kQueries * kPitchOf<D>;
  extern __shared__ __align__(16) bf16 memory[];
  bf16 *k = memory, *v = k + kOwn * kPitchOf<D>;  // then q and dout, twice
  __shared__ float lse[2][kQueries], delta[2][kQueries];
  const Tile tile = tile_of<kOwn>(a.sequences, blockIdx.x);
  if (tile.length == 0) return;
  const int group = a.shape.heads / a.shape.kv_heads, dim = a.shape.head_dim;
  const int64_t kv = int64_t{blockIdx.y} * dim;
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int64_t end = a.shape.window > 0 && tile.first + kOwn - 1 + a.shape.window < tile.length
                          ? tile.first + kOwn - 1 + a.shape.window
                          : tile.length;
  const int64_t steps = (end - tile.first + kQueries - 1) / kQueries, all = steps * group;
  const auto queries_at = [&](int stage) { return v + kOwn * kPitchOf<D> + 2 * stage * kTileSize; };
  const auto fetch_queries = [&](int64_t step, int stage) {
    const int64_t head = int64_t{blockIdx.y} * group + step / steps,
                  q0 = tile.first + step % steps * kQueries;
    fetch<D, kQueries>(queries_at(stage), a.q, tile, q0, head * dim, dim);
    fetch<D, kQueries>(queries_at(stage) + kTileSize, a.dout, tile, q0, head * dim, dim);
    const int64_t query = q0 + threadIdx.x, at = head * a.tokens + tile.begin + query;
    if (threadIdx.x < kQueries) {
      lse[stage][threadIdx.x] = query < tile.length ? a.lse[at] * kLog2e : 0.f;
      delta[stage][threadIdx.x] = query < tile.length ? a.delta[at] : 0.f;
    }
  };
  fetch<D, kOwn>(k, a.k, tile, tile.first, kv, dim);
  fetch<D, kOwn>(v, a.v, tile, tile.first, kv, dim);
  fetch_queries(0, 0);
  commit_copies();

  const float scale = a.shape.scale * kLog2e;
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  int stage = 0;
  for (int64_t step = 0; step < all; ++step, stage ^= 1) {
    if (step + 1 < all) fetch_queries(step + 1, stage ^ 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    const int64_t q0 = tile.first + step % steps * kQueries;
    float scores[kQueries / 8][4] = {}, slopes[kQueries / 8][4] = {};  // transposed: a row is a key
    scores_of<D, kQueries>(scores, k, row, queries_at(stage), lane);
    scores_of<D, kQueries>(slopes, v, row, queries_at(stage) + kTileSize, lane);
    const auto at = [&](int j, int i) {
      const int q = j * 8 + lane % 4 * 2 + i % 2;
      return Element{static_cast<int>(q0) + q, static_cast<int>(tile.first) + row + lane / 4 + i / 2 * 8,
                     lse[stage][q], delta[stage][q]};
    };
    const bool all = a.shape.window == 0 && q0 >= tile.first + row + 15 && q0 + kQueries <= tile.length;
    backward_scores<kQueries>(scores, slopes, all, scale, Sight(tile.length, a.shape), at);
    mix<D, kQueries>(dv, scores, queries_at(stage) + kTileSize, lane);
    mix<D, kQueries>(dk, slopes, queries_at(stage), lane);
    __syncthreads();
  }
  for (int half = 0; half < 2; ++half) {
    const int64_t key = tile.first + row + lane / 4 + half * 8;
    if (key >= tile.length) continue;
    put_row<D>(a.dk[tile.begin + key] + kv, dk, half, a.shape.scale, lane, dim);
    put_row<D>(a.dv[tile.begin + key] + kv, dv, half, 1.f, lane, dim);
  }
}

// own: tiles of kOwn rows; shared: of `rows` rows, in two stages.
template <int D>
constexpr int bytes_of(int own, int shared, int rows) {
  return (own * kOwn + 2 * shared * rows) * kPitchOf<D> * static_cast<int>(sizeof(bf16));
}

template <class View>
void launch(const char* op, void (*kernel)(View), dim3 grid, int bytes, const View& view) {
  allow_shared(op, kernel, static_cast<size_t>(bytes));
  kernel<<<grid, kThreads, static_cast<size_t>(bytes)>>>(view);
  check_launch(op);
}

template <int D>
void forward(const ForwardView<bf16>& view, unsigned tiles) {
  launch("attention", attend<D>, dim3(tiles, static_cast<unsigned>(view.shape.heads)), bytes_of<D>(1, 2, 64),
         view);
}

template <int D>
void backward(const BackwardView<bf16>& view, unsigned tiles) {
  launch("attention_backward", backward_of_queries<D>, dim3(tiles, static_cast<unsigned>(view.shape.heads)),
         bytes_of<D>(2, 2, 32), view);
  launch("attention_backward", backward_of_keys<D>, dim3(tiles, static_cast<unsigned>(view.shape.kv_heads)),
         bytes_of<D>(2, 2, 32), view);
}

}  // namespace

void attend_on_tensor_cores(const ForwardView<bf16>& view, int64_t capacity) {
  if (attend_by_warpgroups(view, capacity)) return;
  const unsigned tiles = most_tiles<kOwn>(capacity, view.sequences.count);
  view.shape.head_dim <= 64 ? forward<64>(view, tiles) : forward<128>(view, tiles);
}

void attend_backward_on_tensor_cores(const BackwardView<bf16>& view, int64_t capacity) {
  if (attend_backward_by_warpgroups(view, capacity)) return;
  const unsigned tiles = most_tiles<kOwn>(capacity, view.sequences.count);
  view.shape.head_dim <= 64 ? backward<64>(view, tiles) : backward<128>(view, tiles);
}

}  // namespace flagscale::op
