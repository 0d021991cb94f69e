// A sum is cut along k into kSlices slices of whole steps of kStep; each is one chain of m16n8k16 on tensor
// cores, two for 32 neighbours of k, and slices are added in order. Where few rows wait for the weight, a
// warp has a slice and weights go from memory to the tensor cores' registers, 16 bytes a lane; where there
// are many, a block has a tile of rows and walks along k. Both form the same chains. A lane's 16 bytes are
// eight neighbours of k, in weight and x alike, so which of 32 neighbours go into which of the two products
// is a permutation of k. Few rows are bound by memory (the weight once), many by what mma.sync reaches of the
// arithmetic.
//
// fp32, for checks, and rows that are not multiples of 16 bytes: a warp an output, lanes 32 apart.
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"
#include "op/matmul/steady_cuda.h"
#include "op/matmul/steady_slices_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = kSliceThreads;

template <class T, class C>
struct Steady {
  Rows<const T> w, x;
  Rows<C> y;
  const T* bias;
  int64_t m, n, k, slice;  // rows of x, of w, and columns; columns of a slice
  __device__ float biased(float sum, int64_t column) const {
    return bias ? sum + as_float(bias[column]) : sum;
  }
};

constexpr int kRowsAtOnce = 8;

template <class T, class C>
__global__ void __launch_bounds__(kThreads) dot_rows(Steady<T, C> p) {
  const int64_t column = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  const int64_t row = int64_t{blockIdx.y} * kRowsAtOnce, lane = threadIdx.x % 32;
  if (column >= p.n) return;
  const T *w = p.w[column], *x[kRowsAtOnce];
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) x[r] = p.x[row + r < p.m ? row + r : row];
  float sum[kRowsAtOnce] = {};
#pragma unroll 2
  for (int64_t k = lane; k < p.k; k += 32) {
    const float weight = as_float(w[k]);
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) sum[r] = fmaf(weight, as_float(x[r][k]), sum[r]);
  }
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const float total = warp_sum(sum[r]);
    if (lane == 0 && row + r < p.m) put(p.y[row + r] + column, p.biased(total, column));
  }
}

// sum += 16 rows of the weight times 8 of x, over 32 of k.
__device__ void multiply_32(float (&sum)[4], const Fragment (&w)[2], const uint32_t (&x)[4]) {
  multiply_add(sum, w[0], x[0], x[1]);
  multiply_add(sum, w[1], x[2], x[3]);
}

// What a warp has under way: kDepth steps of kSpan of k, each a run of pieces of every row of weight and x.
// Few rows of x leave room for longer runs, which memory prefers.
template <int kW, int kX>
struct Ring {
  static constexpr int kSpan = kX <= 2 ? 64 : 32, kRun = kSpan / 8;  // numbers, and pieces of 16 bytes
  static constexpr int kRows = kW * 16 + kX * 8, kPieces = kRows * kRun;
  static constexpr int kDepth = kPieces <= 128 ? 5 : kPieces <= 192 ? 4 : 3;
  static constexpr size_t kBytes = size_t{kSlices} * kDepth * kPieces * sizeof(uint4);
  // Where a piece of a row lies in its step: swizzled, so that eight rows' fall on different banks.
  static __device__ int place(int row, int piece) {
    return row * kRun + (piece ^ (kRun == 8 ? row % 8 : row / 2 % 4));
  }
};

// A block: kW * 16 rows of the weight, kX * 8 rows of x; a warp: one slice of them. Warps wait for nobody
// until the slices are added.
template <int kW, int kX, class C>
__global__ void __launch_bounds__(kThreads) few_rows(Steady<bf16, C> p) {
  using R = Ring<kW, kX>;
  constexpr int kAtOnce = 32 / R::kRun, kWeightCopies = kW * 16 / kAtOnce, kXCopies = kX * 8 / kAtOnce;
  extern __shared__ uint4 shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first = int64_t{blockIdx.y} * kW * 16, row = int64_t{blockIdx.x} * kX * 8;
  const int64_t begin = warp * p.slice, end = begin + p.slice < p.k ? begin + p.slice : p.k;
  uint4* ring = shared + warp * R::kDepth * R::kPieces;
  const int of_copy = lane / R::kRun, piece = lane % R::kRun;
  const bf16 *w[kWeightCopies], *x[kXCopies];
#pragma unroll
  for (int i = 0; i < kWeightCopies; ++i) {
    const int64_t at = first + i * kAtOnce + of_copy;
    w[i] = p.w[at < p.n ? at : p.n - 1] + piece * 8;
  }
#pragma unroll
  for (int j = 0; j < kXCopies; ++j) {
    const int64_t at = row + j * kAtOnce + of_copy;
    x[j] = at < p.m ? p.x[at] + piece * 8 : nullptr;
  }
  const auto fetch_weight = [&](int64_t k, int slot) {
    const bool there = k + piece * 8 < end;
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i)
      copy_16_bytes(ring + slot * R::kPieces + R::place(i * kAtOnce + of_copy, piece),
                    there ? w[i] + k : w[i], there);
  };
  const auto fetch_x = [&](int64_t k, int slot) {
    const bool there = k + piece * 8 < end;
#pragma unroll
    for (int j = 0; j < kXCopies; ++j)
      copy_16_bytes(ring + slot * R::kPieces + R::place(kW * 16 + j * kAtOnce + of_copy, piece),
                    there && x[j] ? x[j] + k : p.x.data, there && x[j]);
    commit_copies();
  };
  let_next_start();
#pragma unroll
  for (int i = 0; i < R::kDepth - 1; ++i) fetch_weight(begin + R::kSpan * i, i);  // nobody writes weights
  wait_for_previous();
#pragma unroll
  for (int i = 0; i < R::kDepth - 1; ++i) fetch_x(begin + R::kSpan * i, i);
  float sum[kW][kX][4] = {};
  int slot = 0;
  for (int64_t k = begin; k < end; k += R::kSpan) {
    wait_for_copies<R::kDepth - 2>();
    __syncwarp();
    const uint4* from = ring + slot * R::kPieces;
    Fragment a[R::kRun / 4][kW][2];
    uint32_t b[R::kRun / 4][kX][4];
#pragma unroll
    for (int h = 0; h < R::kRun / 4; ++h) {
#pragma unroll
      for (int i = 0; i < 2 * kW; ++i)
        load_matrices(a[h][i / 2][i % 2],
                      from + R::place(i / 2 * 16 + lane % 16, h * 4 + i % 2 * 2 + lane / 16));
#pragma unroll
      for (int j = 0; j < kX; ++j)
        load_matrices(b[h][j], from + R::place(kW * 16 + j * 8 + lane % 8, h * 4 + lane / 8));
    }
    const int free = slot == 0 ? R::kDepth - 1 : slot - 1;  // read a step ago by all lanes
    fetch_weight(k + R::kSpan * (R::kDepth - 1), free);
    fetch_x(k + R::kSpan * (R::kDepth - 1), free);
    slot = slot == R::kDepth - 1 ? 0 : slot + 1;
#pragma unroll
    for (int h = 0; h < R::kRun / 4; ++h)
#pragma unroll
      for (int i = 0; i < kW; ++i)
#pragma unroll
        for (int j = 0; j < kX; ++j) multiply_32(sum[i][j], a[h][i], b[h][j]);
  }
  wait_for_copies<0>();
  __syncthreads();  // the rings are read
  add_slices(sum, reinterpret_cast<float*>(shared), p.y, p.bias, first, row, p.n, p.m);
}

constexpr int kTile = 128, kStages = 4;  // rows of the weight of a block, and steps in flight

// Rows of kStep numbers in shared memory; pieces of 16 bytes of neighbouring rows fall on different banks.
__device__ int place_of(int row, int piece) { return row * kStep + (piece ^ row % 8) * 8; }

template <int kRows>
__device__ void fetch(bf16* to, const Rows<const bf16>& from, int64_t first, int64_t rows, int64_t k,
                      int64_t size) {
  constexpr int kPieces = kStep / 8;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    const bool there = first + row < rows && k + piece * 8 < size;
    copy_16_bytes(to + place_of(row, piece), there ? from[first + row] + k + piece * 8 : from.data, there);
  }
}

// A warp: 64 rows of the weight, kX * 8 of x; a block: 128 and kX * 32.
template <int kX>
constexpr int kStage = (kTile + kX * 32) * kStep;  // numbers
constexpr int kResultPitch = kTile + 4;
template <int kX>
constexpr size_t kShared = size_t{kStages} * kStage<kX> * sizeof(bf16);

template <int kX>
__device__ void multiply_step(float (&sum)[4][kX][4], const bf16* w, const bf16* x, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t b[kX][4];
#pragma unroll
    for (int j = 0; j < kX; ++j) load_matrices(b[j], x + place_of(j * 8 + lane % 8, half * 4 + lane / 8));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Fragment a[2];
#pragma unroll
      for (int k = 0; k < 2; ++k)
        load_matrices(a[k], w + place_of(i * 16 + lane % 16, half * 4 + k * 2 + lane / 16));
#pragma unroll
      for (int j = 0; j < kX; ++j) multiply_32(sum[i][j], a, b[j]);
    }
  }
}

template <int kX, class C>
__global__ void __launch_bounds__(kThreads) many_rows(Steady<bf16, C> p) {
  extern __shared__ uint4 shared[];
  auto* tiles = reinterpret_cast<bf16*>(shared);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first = int64_t{blockIdx.y} * kTile, row = int64_t{blockIdx.x} * kX * 32;
  const int steps = static_cast<int>((p.k + kStep - 1) / kStep), of_slice = static_cast<int>(p.slice / kStep);
  const int w_row = warp % 2 * 64, x_row = warp / 2 * kX * 8;
  const auto fetch_step = [&](int step) {
    if (step < steps) {
      bf16* to = tiles + step % kStages * kStage<kX>;
      fetch<kTile>(to, p.w, first, p.n, int64_t{step} * kStep, p.k);
      fetch<kX * 32>(to + kTile * kStep, p.x, row, p.m, int64_t{step} * kStep, p.k);
    }
    commit_copies();
  };
  for (int step = 0; step < kStages - 1; ++step) fetch_step(step);
  float total[4][kX][4] = {}, sum[4][kX][4] = {};
  for (int step = 0, left = of_slice; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // this step is there, and the one before it has been read
    fetch_step(step + kStages - 1);
    const bf16* w = tiles + step % kStages * kStage<kX>;
    multiply_step<kX>(sum, w + w_row * kStep, w + (kTile + x_row) * kStep, lane);
    if (--left > 0 && step + 1 < steps) continue;
    left = of_slice;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < kX; ++j)
#pragma unroll
        for (int r = 0; r < 4; ++r) total[i][j][r] += sum[i][j][r], sum[i][j][r] = 0;
  }
  wait_for_copies<0>();
  __syncthreads();
  auto* result = reinterpret_cast<float*>(shared);  // [kX * 32][kResultPitch]
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < kX; ++j)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        result[(x_row + j * 8 + lane % 4 * 2 + r % 2) * kResultPitch + w_row + i * 16 + r / 2 * 8 +
               lane / 4] = total[i][j][r];
  __syncthreads();
  const int64_t column = first + lane * 4;
  for (int at = warp; at < kX * 32 && row + at < p.m; at += kThreads / 32) {
    const float* from = result + at * kResultPitch + lane * 4;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = column + i < p.n ? p.biased(from[i], column + i) : 0.f;
    C* to = p.y[row + at] + column;
    if (column + 4 <= p.n && p.n % 4 == 0) {
      store(to, v);
    } else {
      for (int i = 0; i < 4 && column + i < p.n; ++i) put(to + i, v[i]);
    }
  }
}

template <int kW, int kX, class C>
void launch_few(const Steady<bf16, C>& p) {
  constexpr size_t kBytes = Ring<kW, kX>::kBytes;
  static_assert(kBytes <= kSharedAnywhere);
  static const bool once = (allow_shared("matmul", few_rows<kW, kX, C>, kBytes), true);
  (void)once;
  const dim3 blocks(
      static_cast<unsigned>(divide_up(p.m, kX * 8)),  // those that share weights follow one another
      static_cast<unsigned>(divide_up(p.n, kW * 16)));
  launch_early(few_rows<kW, kX, C>, blocks, kThreads, kBytes, p);
}

template <int kX, class C>
void launch_many(const Steady<bf16, C>& p) {
  constexpr size_t kBytes = kShared<kX>;
  static const bool once = (allow_shared("matmul", many_rows<kX, C>, kBytes), true);
  (void)once;
  const dim3 blocks(static_cast<unsigned>(divide_up(p.m, kX * 32)),
                    static_cast<unsigned>(divide_up(p.n, kTile)));
  many_rows<kX, C><<<blocks, kThreads, kBytes>>>(p);
}

// How many rows of a weight a block takes, and in which tiles, changes no sum.
template <class C>
void launch_tiles(const Steady<bf16, C>& p) {
  constexpr int64_t kBlocks = 264;  // two for each multiprocessor of an H100
  const bool large = p.n / 32 >= kBlocks;
  if (p.m <= 8) return launch_few<1, 1>(p);
  if (p.m <= 16) return launch_few<1, 2>(p);
  if (p.m <= 128) return large ? launch_few<2, 4>(p) : launch_few<1, 4>(p);
  static_assert(kShared<2> <= kSharedAnywhere);
  if (divide_up(p.m, 128) * divide_up(p.n, kTile) < kBlocks / 2 || kShared<4> > shared_of_block())
    return launch_many<2>(p);
  launch_many<4>(p);
}

bool by_pieces(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.row_stride() % 8 == 0 &&
         view.cols() % 8 == 0;
}

}  // namespace

void multiply_steadily(const MatmulArgs& args) {
  const int64_t m = args.a.rows(), n = args.b.dims[0], k = args.a.dims[1];
  if (m == 0 || n == 0) return;
  const bool aligned = by_pieces(args.a) && by_pieces(args.b) && args.out.row_stride() % 4 == 0 &&
                       reinterpret_cast<uintptr_t>(args.out.data) % 16 == 0;
  for_float_type(args.a.dtype, "matmul", [&]<class T>(T) {
    for_float_type(args.out.dtype, "matmul", [&]<class C>(C) {
      const Steady<T, C> p{rows_of<const T>(args.b),
                           rows_of<const T>(args.a),
                           rows_of<C>(args.out),
                           args.bias.defined() ? args.bias.ptr<const T>() : nullptr,
                           m,
                           n,
                           k,
                           divide_up(divide_up(k, kStep), kSlices) * kStep};
      if constexpr (std::is_same_v<T, bf16>)
        if (aligned) return m > 16 && multiply_by_warpgroups(args) ? void() : launch_tiles(p);
      dot_rows<<<dim3(static_cast<unsigned>(divide_up(n, kThreads / 32)),
                      static_cast<unsigned>(divide_up(m, kRowsAtOnce))),
                 kThreads>>>(p);
    });
  });
  check_launch("matmul");
}

}  // namespace flagscale::op
