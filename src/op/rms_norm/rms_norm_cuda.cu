// Bound by memory. One block a group of columns: x is read once from memory and again from L1, but for long
// rows of bf16, which stay in registers (norm_rows_cuda.cuh). The weight's gradient is summed over chunks of
// groups, each in a fixed order, then over chunks; where a warp's registers hold a group, in the same pass as
// dx.
#include "kernel/cuda/column_sums.cuh"
#include "op/fp8_product/largest_cuda.cuh"
#include "op/rms_norm/norm_rows_cuda.cuh"
#include "op/rms_norm/rms_norm.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

// Groups of a chunk, by the shape alone: as many as leave enough blocks for all multiprocessors.
constexpr int64_t kMostChunk = 128, kLeastChunk = 16, kEnoughBlocks = 512;
int64_t chunk_of(int64_t groups) {
  int64_t chunk = kMostChunk;
  while (chunk > kLeastChunk && groups < chunk * kEnoughBlocks) chunk /= 2;
  return chunk;
}

template <class T>
struct Forward {
  Rows<const T> x, delta;
  const T* weight;
  Rows<T> sum, y;
  float* rstd;
  float eps;
  int64_t group, groups;  // columns of one, and how many a row has
};

template <int N, class T>
__global__ void forward_groups(Forward<T> a) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x / a.groups, first = blockIdx.x % a.groups * a.group;
  const T* x = a.x[row] + first;
  const int64_t begin = int64_t{threadIdx.x} * N, step = int64_t{blockDim.x} * N;
  float squares = 0, kept[N] = {},
        weight[N] = {};  // of a thread's first columns, which are mostly all it has
  if (begin < a.group) load(a.weight + begin, weight);
  for (int64_t i = begin; i < a.group; i += step) {
    float v[N];
    load(x + i, v);
    if (a.delta.data) {
      float d[N];
      load(a.delta[row] + first + i, d);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        T stored;  // what the backward pass sees
        put(&stored, v[j] + d[j]);
        v[j] = as_float(stored);
      }
      store(a.sum[row] + first + i, v);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
      squares = fmaf(v[j], v[j], squares);
      if (i == begin) kept[j] = v[j];
    }
  }
  const float rstd = rsqrtf(block_sum(squares) / static_cast<float>(a.group) + a.eps);
  if (threadIdx.x == 0) a.rstd[blockIdx.x] = rstd;
  const T* s = a.delta.data ? a.sum[row] + first : x;
  for (int64_t i = begin; i < a.group; i += step) {  // its own columns
    if (i > begin) {
      load(s + i, kept);
      load(a.weight + i, weight);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) kept[j] = kept[j] * rstd * weight[j];
    store(a.y[row] + first + i, kept);
  }
}

// The same of groups that kLanes lanes hold, N columns each, as the heads of a token are.
template <int kLanes, int N, class T>
__global__ void forward_short_groups(Forward<T> a, int64_t count) {
  let_next_start();
  wait_for_previous();
  const int64_t g = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes;
  const int64_t row = g / a.groups, i = int64_t{threadIdx.x % kLanes} * N, at = g % a.groups * a.group + i;
  const bool live = g < count && i < a.group;
  float v[N] = {}, weight[N] = {}, squares = 0;
  if (live) {
    load(a.x[row] + at, v);
    load(a.weight + i, weight);
    if (a.delta.data) {
      float d[N];
      load(a.delta[row] + at, d);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        T stored;  // what the backward pass sees
        put(&stored, v[j] + d[j]);
        v[j] = as_float(stored);
      }
      store(a.sum[row] + at, v);
    }
  }
#pragma unroll
  for (int j = 0; j < N; ++j) squares = fmaf(v[j], v[j], squares);
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, step);
  const float rstd = rsqrtf(squares / static_cast<float>(a.group) + a.eps);
  if (!live) return;
  if (i == 0) a.rstd[g] = rstd;
#pragma unroll
  for (int j = 0; j < N; ++j) v[j] = v[j] * rstd * weight[j];
  store(a.y[row] + at, v);
}

template <int kLanes, int N, class T>
void launch_short_groups(const Forward<T>& a, int64_t count) {
  constexpr int kThreads = 256;
  launch_early(forward_short_groups<kLanes, N, T>,
               dim3(static_cast<unsigned>(divide_up(count, kThreads / kLanes))), kThreads, 0, a, count);
}

// Long rows of bf16, all of a row on the way at once.
__global__ void __launch_bounds__(32 * kMostNormSlices)
    forward_rows(NormRows a, Rows<bf16> y, float* rstd, uint32_t* largest) {
  const NormPlace at(a);
  NormPack packs[kNormPacks];
  const float own = normalise(a, at, packs);
  if (at.row >= a.rows) return;
  if (at.column(0) == 0) rstd[at.row] = own;
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i)
    if (at.column(i) < a.cols) *reinterpret_cast<NormPack*>(y[at.row] + at.column(i)) = packs[i];
  if (!largest) return;
  uint32_t most = 0;
#pragma unroll
  for (const NormPack& pack : packs)
#pragma unroll
    for (const bf16 one : pack.at) take_larger(most, as_float(one));
  add_largest(largest, most);
}

void forward(KernelContext&, const RmsNormArgs& args) {
  const int64_t group = args.weight.cols(), groups = args.x.cols() / group, rows = args.x.rows();
  uint32_t* largest = largest_parts(args.largest);
  if (rows == 0) return;
  for_float_type(args.x.dtype, "rms_norm", [&]<class T>(T) {
    const Forward<T> a{rows_of<const T>(args.x),
                       args.delta.defined() ? rows_of<const T>(args.delta) : Rows<const T>{},
                       args.weight.ptr<const T>(),
                       args.sum.defined() ? rows_of<T>(args.sum) : Rows<T>{},
                       rows_of<T>(args.y),
                       args.rstd.ptr<float>(),
                       args.eps,
                       group,
                       groups};
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      if (group <= 16 * N) return launch_short_groups<16, N, T>(a, rows * groups);
      if (group <= 32 * N) return launch_short_groups<32, N, T>(a, rows * groups);
      launch_early(forward_groups<N, T>, dim3(static_cast<unsigned>(rows * groups)), row_threads(group, N), 0,
                   a);
    };
    const bool all_wide =
        wide(args.x) && wide(args.delta) && wide(args.weight) && wide(args.sum) && wide(args.y);
    if constexpr (std::is_same_v<T, bf16>)
      if (all_wide && groups == 1 && group > kNormSlice && has_norm_rows(group)) {
        if (largest) clear_largest(largest);
        return launch_norm(forward_rows,
                           {a.x, a.delta, a.weight, a.sum, args.eps, static_cast<int>(group), rows}, a.y,
                           a.rstd, largest);
      }
    if (all_wide)
      run(std::integral_constant<int, kWide<T>>{});
    else
      run(std::integral_constant<int, 1>{});
    if (largest) find_largest(args.y, largest);
  });
  check_launch("rms_norm");
}

template <class T>
struct Backward {
  Rows<const T> s, dy, dsum;
  const T* weight;
  const float* rstd;
  Rows<T> dx, y;                 // y: null, or once more
  float* partials;               // [chunks, group], or null: the weight is frozen
  int64_t group, groups, count;  // count: groups in all rows
  int64_t chunk;                 // groups of a block's
  uint32_t* largest = nullptr;   // of dx
};

// dx = rstd * (w dy) - s * rstd^3 * mean(w dy s)
template <int N, class T>
__global__ void backward_groups(Backward<T> a) {
  const int64_t row = blockIdx.x / a.groups, first = blockIdx.x % a.groups * a.group;
  const T *s = a.s[row] + first, *dy = a.dy[row] + first;
  float dot = 0;
  for (int64_t i = int64_t{threadIdx.x} * N; i < a.group; i += int64_t{blockDim.x} * N) {
    float v[N], d[N], w[N];
    load(s + i, v);
    load(dy + i, d);
    load(a.weight + i, w);
#pragma unroll
    for (int j = 0; j < N; ++j) dot = fmaf(d[j] * w[j], v[j], dot);
  }
  const float rstd = a.rstd[blockIdx.x];
  const float shrink = -rstd * rstd * rstd * block_sum(dot) / static_cast<float>(a.group);
  uint32_t most = 0;
  for (int64_t i = int64_t{threadIdx.x} * N; i < a.group; i += int64_t{blockDim.x} * N) {
    float v[N], d[N], w[N], more[N] = {}, again[N];
    load(s + i, v);
    load(dy + i, d);
    load(a.weight + i, w);
    if (a.dsum.data) load(a.dsum[row] + first + i, more);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      again[j] = v[j] * rstd * w[j];
      v[j] = fmaf(d[j] * w[j], rstd, v[j] * shrink) + more[j];
      take_larger(most, v[j]);
    }
    store(a.dx[row] + first + i, v);
    if (a.y.data) store(a.y[row] + first + i, again);
  }
  if (a.largest) add_largest(a.largest, most);
}

template <class T>
__global__ void sum_chunk(Backward<T> a) {
  const int64_t column = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (column >= a.group) return;
  const int64_t begin = int64_t{blockIdx.x} * a.chunk,
                end = begin + a.chunk < a.count ? begin + a.chunk : a.count;
  float total = 0;
  for (int64_t g = begin; g < end; ++g) {
    const int64_t row = g / a.groups, at = g % a.groups * a.group + column;
    total = fmaf(as_float(a.dy[row][at]) * as_float(a.s[row][at]), a.rstd[g], total);
  }
  a.partials[int64_t{blockIdx.x} * a.group + column] = total;
}

// Both in one pass: a block has a chunk of groups, a warp every kWarps-th of them, a lane kPacks packs of
// eight columns.
constexpr int kWarps = 8;
template <int kPacks>
__global__ void __launch_bounds__(kWarps * 32) backward_chunk(Backward<bf16> a) {
  constexpr int N = 8;
  __shared__ float sums[kWarps][kPacks * 32 * N];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto column = [&](int pack) { return (int64_t{pack} * 32 + lane) * N; };
  let_next_start();
  wait_for_previous();
  float dweight[kPacks][N] = {};
  const int64_t begin = int64_t{blockIdx.x} * a.chunk,
                end = begin + a.chunk < a.count ? begin + a.chunk : a.count;
  for (int64_t g = begin + warp; g < end; g += kWarps) {
    const int64_t row = g / a.groups, first = g % a.groups * a.group;
    Pack<N, bf16> s[kPacks], dy[kPacks], more[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (column(p) < a.group) {
        s[p] = *reinterpret_cast<const Pack<N, bf16>*>(a.s[row] + first + column(p));
        dy[p] = *reinterpret_cast<const Pack<N, bf16>*>(a.dy[row] + first + column(p));
        if (a.dsum.data) more[p] = *reinterpret_cast<const Pack<N, bf16>*>(a.dsum[row] + first + column(p));
      }
    const float rstd = a.rstd[g];
    float dot = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (column(p) < a.group) {
        float w[N];
        load(a.weight + column(p), w);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const float product = as_float(dy[p].at[j]) * as_float(s[p].at[j]);
          dot = fmaf(product, w[j], dot);
          dweight[p][j] = fmaf(product, rstd, dweight[p][j]);
        }
      }
    const float shrink = -rstd * rstd * rstd * warp_sum(dot) / static_cast<float>(a.group);
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (column(p) < a.group) {
        float w[N], dx[N];
        load(a.weight + column(p), w);
#pragma unroll
        for (int j = 0; j < N; ++j)
          dx[j] = fmaf(as_float(dy[p].at[j]) * w[j], rstd, as_float(s[p].at[j]) * shrink) +
                  (a.dsum.data ? as_float(more[p].at[j]) : 0.f);
        store(a.dx[row] + first + column(p), dx);
        if (a.y.data) {
#pragma unroll
          for (int j = 0; j < N; ++j) dx[j] = as_float(s[p].at[j]) * rstd * w[j];
          store(a.y[row] + first + column(p), dx);
        }
      }
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) store(&sums[warp][column(p)], dweight[p]);
  __syncthreads();
  for (int64_t c = threadIdx.x; c < a.group; c += kWarps * 32) {
    float total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += sums[w][c];
    a.partials[int64_t{blockIdx.x} * a.group + c] = total;
  }
}

// The same of longer groups: a block takes a chunk's groups one after another, a thread kPacks packs of eight
// columns; the next group is on its way while one is summed.
constexpr int kRowThreads = 256;
template <int kPacks>
__global__ void __launch_bounds__(kRowThreads) backward_long_chunk(Backward<bf16> a) {
  constexpr int N = 8;
  using Eight = Pack<N, bf16>;
  const auto column = [&](int pack) { return (int64_t{pack} * kRowThreads + threadIdx.x) * N; };
  let_next_start();
  wait_for_previous();
  const int64_t begin = int64_t{blockIdx.x} * a.chunk,
                end = begin + a.chunk < a.count ? begin + a.chunk : a.count;
  struct Group {
    Eight s[kPacks], dy[kPacks], more[kPacks];
  };
  const auto place = [&](int64_t g) { return g % a.groups * a.group; };
  const auto read = [&](Group& to, int64_t g) {
    const int64_t row = g / a.groups, first = place(g);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (g >= end || column(p) >= a.group) continue;
      to.s[p] = *reinterpret_cast<const Eight*>(a.s[row] + first + column(p));
      to.dy[p] = *reinterpret_cast<const Eight*>(a.dy[row] + first + column(p));
      if (a.dsum.data) to.more[p] = *reinterpret_cast<const Eight*>(a.dsum[row] + first + column(p));
    }
  };
  float weight[kPacks][N] = {}, dweight[kPacks][N] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    if (column(p) < a.group) load(a.weight + column(p), weight[p]);
  Group now{}, next{};
  read(now, begin);
  for (int64_t g = begin; g < end; ++g) {
    read(next, g + 1);
    const float rstd = a.rstd[g];
    float dot = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const float product = as_float(now.dy[p].at[j]) * as_float(now.s[p].at[j]);
        dot = fmaf(product, weight[p][j], dot);
        dweight[p][j] = fmaf(product, rstd, dweight[p][j]);
      }
    const float shrink = -rstd * rstd * rstd * block_sum(dot) / static_cast<float>(a.group);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (column(p) >= a.group) continue;
      float dx[N];
#pragma unroll
      for (int j = 0; j < N; ++j)
        dx[j] = fmaf(as_float(now.dy[p].at[j]) * weight[p][j], rstd, as_float(now.s[p].at[j]) * shrink) +
                (a.dsum.data ? as_float(now.more[p].at[j]) : 0.f);
      store(a.dx[g / a.groups] + place(g) + column(p), dx);
      if (a.y.data) {
#pragma unroll
        for (int j = 0; j < N; ++j) dx[j] = as_float(now.s[p].at[j]) * rstd * weight[p][j];
        store(a.y[g / a.groups] + place(g) + column(p), dx);
      }
    }
    now = next;
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    if (column(p) < a.group) store(a.partials + int64_t{blockIdx.x} * a.group + column(p), dweight[p]);
}

// False where the group is too long, or too short for a warp.
bool launch_backward_chunks(const Backward<bf16>& a, int64_t chunks) {
  const auto run = [&](void (*kernel)(Backward<bf16>)) {
    launch_early(kernel, dim3(static_cast<unsigned>(chunks)), 256, 0, a);
    return true;
  };
  if (a.group < 64 || a.group > 4096) return false;
  if (a.group <= 256) return run(backward_chunk<1>);
  if (a.group <= 512) return run(backward_chunk<2>);
  if (a.group <= 768) return run(backward_chunk<3>);
  return a.group <= 2048 ? run(backward_long_chunk<1>) : run(backward_long_chunk<2>);
}

int64_t chunks_of(const RmsNormBackwardArgs& args, int64_t rows) {
  const int64_t groups = args.s.cols() / args.weight.cols();
  return divide_up(rows * groups, chunk_of(args.s.dims[0] * groups));
}

void backward(KernelContext& context, const RmsNormBackwardArgs& args) {
  const int64_t group = args.weight.cols(), groups = args.s.cols() / group, rows = args.s.rows();
  auto* partials = args.dweight.defined() ? reinterpret_cast<float*>(context.workspace.data()) : nullptr;
  const int64_t chunks = chunks_of(args, rows);
  uint32_t* largest = largest_parts(args.largest);
  for_float_type(args.s.dtype, "rms_norm_backward", [&]<class T>(T) {
    Backward<T> a{rows_of<const T>(args.s),
                  rows_of<const T>(args.dy),
                  args.dsum.defined() ? rows_of<const T>(args.dsum) : Rows<const T>{},
                  args.weight.ptr<const T>(),
                  args.rstd.ptr<const float>(),
                  rows_of<T>(args.dx),
                  args.y.defined() ? rows_of<T>(args.y) : Rows<T>{},
                  partials,
                  group,
                  groups,
                  rows * groups,
                  chunk_of(args.s.dims[0] * groups)};
    const bool all_wide = wide(args.s) && wide(args.dy) && wide(args.dsum) && wide(args.weight) &&
                          wide(args.dx) && wide(args.y) && group % 8 == 0;
    if constexpr (std::is_same_v<T, bf16>)
      if (partials && rows > 0 && all_wide && launch_backward_chunks(a, chunks)) {
        if (largest) find_largest(args.dx, largest);
        return;
      }
    if (largest) clear_largest(a.largest = largest);
    // The weight's first: dx may take dy's place.
    const int threads = row_threads(group, 1) < 256 ? row_threads(group, 1) : 256;
    if (partials && rows > 0)
      sum_chunk<<<dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(divide_up(group, threads))),
                  threads>>>(a);
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      backward_groups<N><<<static_cast<unsigned>(rows * groups), row_threads(group, N)>>>(a);
    };
    if (rows > 0) {
      if (all_wide)
        run(std::integral_constant<int, kWide<T>>{});
      else
        run(std::integral_constant<int, 1>{});
    }
  });
  if (partials)
    add_columns("rms_norm_backward", partials, args.dweight, group, chunks,
                !args.accumulate || *args.accumulate != 0);
  check_launch("rms_norm_backward");
}

size_t backward_workspace(const RmsNormBackwardArgs& args, int) {
  return args.dweight.defined()
             ? static_cast<size_t>(chunks_of(args, args.s.dim(0)) * args.weight.cols()) * sizeof(float)
             : 0;
}

const CudaKernel<RmsNormArgs> kForward{kRmsNorm, &forward};
const CudaKernel<RmsNormBackwardArgs> kBackward{kRmsNormBackward, &backward, &backward_workspace};

}  // namespace
}  // namespace flagscale::op
