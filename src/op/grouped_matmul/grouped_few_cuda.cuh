#pragma once
// Experts' products of few rows of bf16 each, y[rows of e] = x[rows of e] W_e^T: bound by reading the weights
// of the experts that have rows, and no others are read. A warp has 16 rows of an expert's weight, up to
// kX * 8 of its rows of x, and walks all of k, so that each sum is one chain of m16n8k16 in order of k: the
// bits of grouped_warpgroup_cuda.cu's. A grid is as large as any routing may need; a warp finds its piece in
// the counts, and warps wait for nobody.
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"

namespace flagscale::op::few {
using namespace flagscale::cuda;

constexpr int kWarps = 2, kOfWarp = 16, kColumns = kWarps * kOfWarp;  // of a block; rows of W of a warp
constexpr int kSpan = 64, kRun = kSpan / 8;  // of k a step, and its pieces of 16 bytes
constexpr int kAtOnce = 32 / kRun;           // rows that a warp's copy takes

// Where a piece of a row lies in a step: eight rows' fall on different banks.
__device__ inline int place_of(int row, int piece) { return row * kRun + (piece ^ row % 8); }

// What a warp has under way: W::kDepth<kX> steps of its rows of weight and x.
template <class W, int kX>
struct Ring {
  static constexpr int kPieces = W::kPieces + kX * 8 * kRun, kDepth = W::template kDepth<kX>;
  static constexpr size_t kBytes = size_t{kWarps} * kDepth * kPieces * sizeof(uint4);
};

template <class W>
struct Product {
  W w;
  Rows<const bf16> x;
  Rows<bf16> y;
  const int32_t* counts;
  int experts, n, k;
};

// A tile of rows, and where its expert's begin and end.
struct Tile {
  int expert, row, end, tiles, at;  // at: of the expert's pieces of work, the tiles' of all columns
};

__device__ inline int sum_of_lanes(int x, int lane) {  // up to its own
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, x, step);
    if (lane >= step) x += other;
  }
  return x;
}

// The unit'th piece of work, `over` for each tile of kSize rows. By a warp; false: there is none.
template <int kSize>
__device__ bool find_tile(const int32_t* counts, int experts, int unit, int over, int lane, Tile& tile) {
  constexpr int kEach = 4;
  int wanted = unit / over, rows = 0, units = unit;
  for (int first = 0; first < experts; first += 32 * kEach) {
    int count[kEach], of_lane = 0, tiles_of_lane = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int expert = first + lane * kEach + i;
      count[i] = expert < experts ? counts[expert] : 0;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) of_lane += count[i], tiles_of_lane += (count[i] + kSize - 1) / kSize;
    const int end = sum_of_lanes(of_lane, lane), tiles = sum_of_lanes(tiles_of_lane, lane);
    const unsigned beyond = __ballot_sync(0xffffffffu, tiles > wanted);
    if (beyond) {
      int expert = first + lane * kEach, row = rows + end - of_lane, before = tiles - tiles_of_lane, own = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        own = count[i];
        if (before + (own + kSize - 1) / kSize > wanted) break;
        before += (own + kSize - 1) / kSize, row += own, ++expert;
      }
      const int from = __ffs(static_cast<int>(beyond)) - 1;
      const auto told = [&](int x) { return __shfl_sync(0xffffffffu, x, from); };
      tile.expert = told(expert), tile.row = told(row), tile.end = tile.row + told(own);
      tile.tiles = (tile.end - tile.row + kSize - 1) / kSize;
      tile.at = units - told(before) * over;
      return true;
    }
    const int all = __shfl_sync(0xffffffffu, tiles, 31);
    wanted -= all, units -= all * over;
    rows += __shfl_sync(0xffffffffu, end, 31);
  }
  return false;
}

template <class W, int kX>
__global__ void __launch_bounds__(kWarps * 32) few_rows_of_experts(const Product<W> p) {
  using R = Ring<W, kX>;
  constexpr int kXCopies = kX * 8 / kAtOnce;
  extern __shared__ uint4 shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  let_next_start();
  // Counts are older than the kernel before this one (spread_rows, or what uses its results).
  Tile tile;
  if (!find_tile<kX * 8>(p.counts, p.experts, static_cast<int>(blockIdx.x), (p.n + kColumns - 1) / kColumns,
                         lane, tile))
    return wait_for_previous();
  // Tiles that share weights follow one another.
  const int first = tile.at / tile.tiles * kColumns + warp * kOfWarp,
            row = tile.row + tile.at % tile.tiles * kX * 8;
  if (first >= p.n) return wait_for_previous();
  uint4* const ring = shared + warp * R::kDepth * R::kPieces;
  const int of_copy = lane / kRun, piece = lane % kRun;
  const typename W::OfWarp weight(p.w, tile.expert, first, p.n, lane);
  const bf16* x[kXCopies];
#pragma unroll
  for (int j = 0; j < kXCopies; ++j) {
    const int at = row + j * kAtOnce + of_copy;
    x[j] = at < tile.end ? p.x[at] + piece * 8 : nullptr;
  }
  const auto fetch_weight = [&](int k, int slot) {
    weight.fetch(p.w, ring + slot * R::kPieces, k, p.k, lane);
  };
  const auto fetch_x = [&](int k, int slot) {
    const bool there = k + piece * 8 < p.k;
#pragma unroll
    for (int j = 0; j < kXCopies; ++j)
      copy_16_bytes(ring + slot * R::kPieces + W::kPieces + place_of(j * kAtOnce + of_copy, piece),
                    there && x[j] ? x[j] + k : p.x.data, there && x[j]);
    commit_copies();
  };
#pragma unroll
  for (int i = 0; i < R::kDepth - 1; ++i) fetch_weight(kSpan * i, i);  // nobody writes weights
  wait_for_previous();
#pragma unroll
  for (int i = 0; i < R::kDepth - 1; ++i) fetch_x(kSpan * i, i);
  float sum[kX][4] = {};
  int slot = 0;
  for (int k = 0; k < p.k; k += kSpan) {
    wait_for_copies<R::kDepth - 2>();
    __syncwarp();
    const uint4* const from = ring + slot * R::kPieces;
    typename W::Read a;
    W::read(from, a, lane);
    uint32_t b[kSpan / 32][kX][4];
#pragma unroll
    for (int i = 0; i < kSpan / 32; ++i)
#pragma unroll
      for (int j = 0; j < kX; ++j)
        load_matrices(b[i][j], from + W::kPieces + place_of(j * 8 + lane % 8, i * 4 + lane / 8));
    const int free = slot == 0 ? R::kDepth - 1 : slot - 1;  // read a step ago by all lanes
    fetch_weight(k + kSpan * (R::kDepth - 1), free);
    fetch_x(k + kSpan * (R::kDepth - 1), free);
    slot = slot == R::kDepth - 1 ? 0 : slot + 1;
#pragma unroll
    for (int i = 0; i < kSpan / 32; ++i) {
      Fragment left[2];
      weight.fragments(a, i, left[0], left[1]);
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kX; ++j)
          multiply_add(sum[j], left[half], b[i][j][2 * half], b[i][j][2 * half + 1]);
    }
  }
  wait_for_copies<0>();
#pragma unroll
  for (int j = 0; j < kX; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int at = row + j * 8 + lane % 4 * 2 + r % 2, column = first + r / 2 * 8 + lane / 4;
      if (at < tile.end && column < p.n) put(p.y[at] + column, sum[j][r]);
    }
}

template <int kX, class W>
void launch(const Product<W>& p, int64_t rows) {
  constexpr size_t kBytes = Ring<W, kX>::kBytes;
  static_assert(kBytes <= kSharedAnywhere);
  static const bool once = (allow_shared("grouped_matmul", few_rows_of_experts<W, kX>, kBytes), true);
  (void)once;
  const int64_t live = rows < p.experts ? rows : p.experts, tiles = live + (rows - live) / (kX * 8);
  launch_early(few_rows_of_experts<W, kX>, dim3(static_cast<unsigned>(tiles * divide_up(p.n, kColumns))),
               kWarps * 32, kBytes, p);
}

// `rows` of all experts: how many of one a warp takes changes no sum.
template <class W>
void multiply(const Product<W>& p, int64_t rows) {
  if (rows <= 2 * p.experts) return launch<1>(p, rows);
  if (rows <= 8 * p.experts) return launch<2>(p, rows);
  launch<4>(p, rows);
}

// Whether rows may be read so.
inline bool by_pieces(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.row_stride() % 8 == 0 &&
         view.cols() % 8 == 0;
}

}  // namespace flagscale::op::few
