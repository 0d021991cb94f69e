// One block a row. The row is read from the second-level cache: once for the largest, once for the sums of
// tiles from which one is drawn; with top_k or top_p twice more, to bring what may stay into shared memory,
// where the least weight that stays is searched by halving the range of its bits.
#include <cfloat>

#include "kernel/cuda/cuda.cuh"
#include "op/draw_rows/draw_rows.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kMostTiles = 512;        // of kThreads columns
constexpr int kCandidates = 23 << 10;  // that fit; more are read from the row again and again

using Mass = unsigned long long;
__device__ Mass mass_of(float weight) { return static_cast<Mass>(weight * 0x1p40f); }

// A number and its column, as one that orders like them: larger numbers first, then lower columns; 0: none.
using Ranked = unsigned long long;
constexpr Ranked kBroken = ~Ranked{0};
__device__ Ranked ranked(float x, int64_t column) {
  if (x != x || x == INFINITY) return kBroken;
  if (x == -INFINITY) return 0;
  const uint32_t bits = __float_as_uint(x + 0.f);  // -0 is 0
  const uint32_t order = bits >> 31 ? ~bits : bits | 1u << 31;
  return Ranked{order} << 32 | (0xffffffffu - static_cast<uint32_t>(column));
}

struct Shared {
  unsigned long long of_warp[kWarps];
  Mass tiles[kMostTiles];
  Mass left;  // of what is drawn, in its tile
  int tile;
  unsigned candidates;
};

// On every thread.
template <class Join>
__device__ unsigned long long over_block(unsigned long long x, Shared& shared, Join&& join) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();  // what was there has been read
  if (threadIdx.x % 32 == 0) shared.of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  x = shared.of_warp[threadIdx.x % 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
__device__ unsigned long long sum_over_block(unsigned long long x, Shared& shared) {
  return over_block(x, shared, [](auto a, auto b) { return a + b; });
}
__device__ unsigned long long most_over_block(unsigned long long x, Shared& shared) {
  return over_block(x, shared, [](auto a, auto b) { return a > b ? a : b; });
}

// The weights of a row, or those of them that were kept.
struct Weights {
  const float* row;
  int64_t n;
  float top, scale;
  const float* kept = nullptr;
  int64_t count = 0;
  __device__ float at(int64_t column) const { return expf((row[column] - top) * scale); }
  // The sum of value(w) over all w >= least, on every thread.
  template <class Value>
  __device__ Mass sum(float least, Shared& shared, Value&& value) const {
    Mass own = 0;
    if (kept) {
      for (int64_t i = threadIdx.x; i < count; i += kThreads)
        if (kept[i] >= least) own += value(kept[i]);
    } else {
#pragma unroll 4
      for (int64_t i = threadIdx.x; i < n; i += kThreads)
        if (const float w = at(i); w >= least) own += value(w);
    }
    return sum_over_block(own, shared);
  }
};

// The largest number of [least, 1] for which holds(); holds(least) is taken for granted.
template <class Holds>
__device__ float last_that(float least, Holds&& holds) {
  uint32_t low = __float_as_uint(least), high = __float_as_uint(1.f) + 1;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (holds(__uint_as_float(middle)) ? low : high) = middle;
  }
  return __uint_as_float(low);
}

// The least weight that stays.
__device__ float least_of(Weights& weights, const Draw& how, float* room, Shared& shared) {
  const float least = fmaxf(how.min_p, FLT_MIN);
  const bool by_rank = how.top_k > 0 && how.top_k < weights.n, by_mass = how.top_p < 1;
  if (!by_rank && !by_mass) return least;
  const auto one = [](float) { return Mass{1}; };
  const auto mass = [](float w) { return mass_of(w); };
  float bound = least, own = 0;  // nothing below the bound can stay
  Mass total = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < weights.n; i += kThreads) {
    const float w = weights.at(i);
    own = fmaxf(own, w);
    if (w >= least) total += mass_of(w);
  }
  if (by_rank && how.top_k <= kThreads)  // so many threads have one that is as large
    bound = last_that(least, [&](float x) { return __syncthreads_count(own >= x) >= how.top_k; });
  else if (by_mass && !by_rank)
    bound = fmaxf(bound, static_cast<float>(static_cast<double>(sum_over_block(total, shared)) * 0x1p-40 *
                                            (1 - static_cast<double>(how.top_p)) * 0.999) /
                             static_cast<float>(weights.n));
  if (threadIdx.x == 0) shared.candidates = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < weights.n; i += kThreads)
    if (const float w = weights.at(i); w >= bound)
      if (const unsigned at = atomicAdd(&shared.candidates, 1u); at < kCandidates) room[at] = w;
  __syncthreads();
  if (shared.candidates <= kCandidates) weights.kept = room, weights.count = shared.candidates;
  float stays =
      by_rank
          ? last_that(bound,
                      [&](float x) { return weights.sum(x, shared, one) >= static_cast<Mass>(how.top_k); })
          : least;
  if (by_mass) {
    const Mass all = by_rank ? weights.sum(stays, shared, mass) : sum_over_block(total, shared);
    const auto wanted = static_cast<Mass>(static_cast<double>(all) * static_cast<double>(how.top_p));
    const float first = fmaxf(stays, bound);
    stays = last_that(first, [&](float x) { return weights.sum(x, shared, mass) >= wanted; });
  }
  weights.kept = nullptr;
  return stays;
}

// Inclusive sums over a warp.
__device__ Mass running_sum(Mass x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const Mass before = __shfl_up_sync(0xffffffffu, x, step);
    if (lane >= step) x += before;
  }
  return x;
}

__device__ int32_t draw(const Weights& weights, float least, double uniform, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int tiles = static_cast<int>((weights.n + kThreads - 1) / kThreads);
  const auto mass_at = [&](int64_t column) {
    if (column >= weights.n) return Mass{0};
    const float w = weights.at(column);
    return w >= least ? mass_of(w) : Mass{0};
  };
  for (int tile = warp; tile < tiles; tile += kWarps) {
    Mass sum = 0;
#pragma unroll 8
    for (int j = 0; j < kThreads; j += 32) sum += mass_at(int64_t{tile} * kThreads + j + lane);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0) shared.tiles[tile] = sum;
  }
  __syncthreads();
  if (warp == 0) {
    Mass total = 0;
    for (int i = lane; i < tiles; i += 32) total += shared.tiles[i];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    auto target = static_cast<Mass>(uniform * static_cast<double>(total));
    target = target < total ? target : total - 1;
    Mass before = 0;
    for (int begin = 0; begin < tiles; begin += 32) {
      const Mass own = begin + lane < tiles ? shared.tiles[begin + lane] : 0, sum = before + running_sum(own);
      if (sum > target && sum - own <= target) shared.tile = begin + lane, shared.left = target - (sum - own);
      before = __shfl_sync(0xffffffffu, sum, 31);
    }
  }
  __syncthreads();
  const int64_t column = int64_t{shared.tile} * kThreads + threadIdx.x;
  const Mass own = mass_at(column);
  Mass sum = running_sum(own);
  if (lane == 31) shared.of_warp[warp] = sum;
  __syncthreads();
  for (int i = 0; i < warp; ++i) sum += shared.of_warp[i];
  const bool chosen = sum > shared.left && sum - own <= shared.left;
  return chosen ? static_cast<int32_t>(column) : -1;
}

__global__ void __launch_bounds__(kThreads)
    draw_each(Rows<const float> x, Rows<const int32_t> hows, int32_t* drawn, int64_t n) {
  __shared__ Shared shared;
  extern __shared__ float room[];
  const float* row = x[blockIdx.x];
  const Draw how = *reinterpret_cast<const Draw*>(hows[blockIdx.x]);
  Ranked best = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const Ranked r = ranked(row[i], i);
    best = r > best ? r : best;
  }
  best = most_over_block(best, shared);
  const auto column = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best));
  if (best == kBroken || best == 0 || how.scale == 0) {
    if (threadIdx.x == 0)
      drawn[blockIdx.x] = best == kBroken ? kNotANumber : best == 0 ? kAllMinusInfinity : column;
    return;
  }
  Weights weights{row, n, row[column], how.scale};
  const float least = least_of(weights, how, room, shared);
  if (const int32_t chosen = draw(weights, least, how.uniform, shared); chosen >= 0)
    drawn[blockIdx.x] = chosen;
}

void run(KernelContext&, const DrawRowsArgs& args) {
  if (args.x.rows() == 0) return;
  constexpr int kBytes = kCandidates * static_cast<int>(sizeof(float));
  static_assert(kBytes + sizeof(Shared) <= kSharedAnywhere);
  static const bool once = (allow_shared("draw_rows", draw_each, kBytes), true);
  (void)once;
  draw_each<<<static_cast<unsigned>(args.x.rows()), kThreads, kBytes>>>(
      rows_of<const float>(args.x), rows_of<const int32_t>(args.how), args.drawn.ptr<int32_t>(),
      args.x.cols());
  check_launch("draw_rows");
}

const CudaKernel<DrawRowsArgs> kKernel{kDrawRows, &run};

}  // namespace
}  // namespace flagscale::op
