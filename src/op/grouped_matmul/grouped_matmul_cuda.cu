// Large products in bf16 are Hopper's (grouped_warpgroup_cuda.cu), few rows an expert have a kernel of their
// own (grouped_few_cuda.cu), which multiplies any number of them by weights of other GPUs. Here all others:
// fp32, an odd alignment, gradients of bf16 before Hopper. A block takes tiles of 64 by 64 as a table of the
// experts' rows says, a thread 4 by 4 of one. Each sum is one chain along k in all three: a row's bits do not
// depend on how many there are.
#include "kernel/cuda/warpgroup.cuh"
#include "op/grouped_matmul/grouped_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kTile = 64, kStep = 16, kThreads = 256;

template <class T, class C>
struct Groups {
  GroupSizes sizes;
  Rows<const T> a, b;
  Rows<C> c;
  const int32_t* counts;
};

__device__ int tiles(int n) { return (n + kTile - 1) / kTile; }

// A tile of an expert: c[first_row + row ..][column ..] = sum over k of left(row, k) right(k, column).
template <class T, class C>
struct PlainTile {
  const Groups<T, C>& g;
  int first, count, row, column;  // the expert's rows, and the tile's place
  int64_t expert;

  __device__ int rows() const { return g.sizes.sums ? g.sizes.m : count; }
  __device__ int depth() const { return g.sizes.sums ? count : g.sizes.k; }
  __device__ float left(int r, int k) const {
    if (r >= rows() || k >= depth()) return 0;
    return as_float(g.sizes.sums ? g.a[first + k][r] : g.a[first + r][k]);
  }
  __device__ float right(int k, int n) const {
    if (n >= g.sizes.n || k >= depth()) return 0;
    if (g.sizes.sums) return as_float(g.b[first + k][n]);
    return as_float(g.sizes.trans_b ? g.b[expert * g.sizes.n + n][k] : g.b[expert * g.sizes.k + k][n]);
  }
  __device__ void put_sum(int r, int n, float sum) const {
    if (r >= rows() || n >= g.sizes.n) return;
    C* to = (g.sizes.sums ? g.c[expert * g.sizes.m + r] : g.c[first + r]) + n;
    put(to, g.sizes.add ? sum + as_float(*to) : sum);
  }
  // Neighbouring threads read neighbouring numbers.
  __device__ void load(int k0, float (&l)[kStep][kTile + 4], float (&r)[kStep][kTile + 4]) const {
    const int thread = static_cast<int>(threadIdx.x);
    const bool left_down = g.sizes.sums, right_down = g.sizes.sums || !g.sizes.trans_b;
#pragma unroll
    for (int i = thread; i < kTile * kStep; i += kThreads) {
      const int lr = left_down ? i % kTile : i / kStep, lk = left_down ? i / kTile : i % kStep;
      l[lk][lr] = left(row + lr, k0 + lk);
      const int rn = right_down ? i % kTile : i / kStep, rk = right_down ? i / kTile : i % kStep;
      r[rk][rn] = right(k0 + rk, column + rn);
    }
  }
};

template <class T, class C>
__global__ void __launch_bounds__(kThreads) multiply_tiles(const Groups<T, C> g) {
  __shared__ GroupTable table;
  __shared__ alignas(16) float left[kStep][kTile + 4];
  __shared__ alignas(16) float right[kStep][kTile + 4];
  const int over = tiles(g.sizes.n);
  table.fill(g.counts, g.sizes.experts, [&](int count) {
    if (!g.sizes.sums) return tiles(count) * over;
    return count == 0 && g.sizes.add ? 0 : tiles(g.sizes.m) * over;
  });
  __syncthreads();
  const int x = static_cast<int>(threadIdx.x) % 16 * 4, y = static_cast<int>(threadIdx.x) / 16 * 4;
  int expert = 0;
  for (int unit = static_cast<int>(blockIdx.x);; unit += static_cast<int>(gridDim.x)) {
    expert = table.expert_of(unit, expert, g.sizes.experts);
    if (expert == g.sizes.experts) return;
    const int at = unit - table.units[expert];
    const PlainTile<T, C> tile{
        g, table.rows[expert], table.count(expert), at / over * kTile, at % over * kTile, expert};
    float sum[4][4] = {};
    for (int k0 = 0; k0 < tile.depth(); k0 += kStep) {
      tile.load(k0, left, right);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kStep; ++k) {
        float a[4], b[4];
        load(&left[k][y], a);
        load(&right[k][x], b);
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) tile.put_sum(tile.row + y + i, tile.column + x + j, sum[i][j]);
  }
}

const TensorView& result_of(const GroupedMatmulArgs& args) {
  if (args.sum.defined()) return args.sum;
  return args.into.defined() ? static_cast<const TensorView&>(args.into) : args.out;
}

GroupSizes sizes_of(const GroupedMatmulArgs& args) {
  const auto experts = static_cast<int>(args.counts.dims[0]);
  if (experts > kMostGroups) too_large("grouped_matmul", "the number of experts", experts, kMostGroups);
  const bool add = !args.out.defined() && (!args.accumulate || *args.accumulate != 0);
  return {experts,
          static_cast<int>(args.a.cols()),
          static_cast<int>(args.sum.defined() ? args.b.cols() : result_of(args).cols()),
          static_cast<int>(args.a.cols()),
          args.sum.defined(),
          args.trans_b,
          add};
}

void run(KernelContext&, const GroupedMatmulArgs& args) { multiply_groups(args); }

const CudaKernel<GroupedMatmulArgs> kKernel{kGroupedMatmul, &run};

}  // namespace

void multiply_groups(const GroupedMatmulArgs& args) {
  const GroupSizes sizes = sizes_of(args);
  const TensorView& c = result_of(args);
  const int64_t rows = args.a.rows();
  if (rows == 0 && (!sizes.sums || sizes.add)) return;
  // Fewer on average are bound by reading weights, in pieces that all multiprocessors share evenly.
  constexpr int64_t kFew = 8;
  const int64_t most = on_hopper() ? kFew * sizes.experts : rows;
  if (rows > 0 &&
      (multiply_few_rows_of_groups(args, sizes, most) || multiply_groups_by_warpgroups(args, sizes)))
    return;
  const int64_t down = sizes.sums ? sizes.experts * divide_up(sizes.m, kTile)
                                  : divide_up(rows, kTile) + sizes.experts,
                units = down * divide_up(sizes.n, kTile), blocks = 8 * 132;
  for_float_type(args.a.dtype, "grouped_matmul", [&]<class T>(T) {
    for_float_type(c.dtype, "grouped_matmul", [&]<class C>(C) {
      multiply_tiles<T, C><<<static_cast<unsigned>(units < blocks ? units : blocks), kThreads>>>(
          {sizes, rows_of<const T>(args.a), rows_of<const T>(args.b), rows_of<C>(c),
           args.counts.ptr<const int32_t>()});
    });
  });
  check_launch("grouped_matmul");
}

}  // namespace flagscale::op
