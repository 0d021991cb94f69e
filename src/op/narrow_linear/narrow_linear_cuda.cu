// Few rows: a warp has a slice of k, as in op/matmul/steady_cuda.cu; its weights come to registers as they
// lie, 16 bytes a lane, and are widened there. Bound by reading them, four bits by that and by widening. Up
// to kManyRows: warpgroups. More: the weight is widened into memory first, a large one part by part, and the
// product is that of op/matmul.
#include <algorithm>

#include "kernel/cuda/warpgroup.cuh"
#include "op/matmul/steady_slices_cuda.cuh"
#include "op/narrow_linear/narrow_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int64_t kFewRows = 16, kManyRows = 256;

template <class C>
struct Product {
  Panels w;
  Rows<const bf16> x;
  Rows<C> y;
  const bf16* bias;
  int64_t m, n, k, slice;
};

// What a warp has under way: kDepth steps (one less where shared memory is small) of kSpan of k, tiles of kW
// panels of the weight, then their scales where columns share them by groups, then pieces of 16 bytes of x's
// rows.
template <Narrow kFormat, int kW, int kX>
struct Ring {
  using L = Layout<kFormat>;
  static constexpr int kSpan = kW * kX == 1 ? 128 : 64, kTiles = kSpan / L::kColumns;  // of a panel
  static constexpr int kRun = kSpan / 8, kScales = kW * kTiles * 32,
                       kScalePieces = kW * kTiles * L::kScalePieces;
  static constexpr int kOfX = kScales + kScalePieces, kPieces = kOfX + kX * 8 * kRun;
  static constexpr int kMostDepth = kSpan == 128 && L::kColumns == 32 ? 3 : 4,
                       kDepth = kRoomy ? kMostDepth : kMostDepth - 1, kOfRings = kSlices * kDepth * kPieces;
  static constexpr size_t bytes(int depth) {
    return size_t{kSlices} * depth * kPieces * sizeof(uint4) +
           sizeof(float) * kSlices * kW * kPanelRows * (kX * 8 + 1);
  }
  // Eight rows' pieces fall on different banks.
  static __device__ int x_place(int row, int piece) { return kOfX + row * kRun + (piece ^ row % 8); }
};

// A block takes kW panels after kW panels, kX * 8 rows of x; a warp: one slice of them. The next weights are
// under way while the slices of these meet.
template <Narrow kFormat, int kW, int kX, class C>
__global__ void __launch_bounds__(kSliceThreads, 2) few_rows(Product<C> p) {
  using R = Ring<kFormat, kW, kX>;
  using L = Layout<kFormat>;
  constexpr int kXAtOnce = 32 / R::kRun, kXCopies = kX * 8 / kXAtOnce;
  extern __shared__ uint4 shared[];
  auto* parts = reinterpret_cast<float*>(shared + R::kOfRings);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = int64_t{blockIdx.x} * kX * 8, begin = warp * p.slice,
                end = begin + p.slice < p.k ? begin + p.slice : p.k;
  const int panels = static_cast<int>((p.n + kPanelRows - 1) / kPanelRows),
            spans = begin < end ? static_cast<int>((end - begin + R::kSpan - 1) / R::kSpan) : 0;
  const int stride = static_cast<int>(gridDim.y) * kW, start = static_cast<int>(blockIdx.y) * kW;
  const int of_panel = static_cast<int>(p.w.tiles), first_tile = static_cast<int>(begin / L::kColumns),
            of_slice = static_cast<int>((end + L::kColumns - 1) / L::kColumns) - first_tile;
  uint4* ring = shared + warp * R::kDepth * R::kPieces;
  const int piece = lane % R::kRun;
  const bf16* x[kXCopies];
#pragma unroll
  for (int j = 0; j < kXCopies; ++j) {
    const int64_t at = row + j * kXAtOnce + lane / R::kRun;
    x[j] = at < p.m ? p.x[at] + begin + piece * 8 : nullptr;
  }
  const int live = static_cast<int>(end - begin) - piece * 8;  // columns of x from the lane's first
  struct Next {
    int panel;
    uint32_t data;  // the lane's 16 bytes of the first tile
    int span = 0, slot = 0;
  };
  const Next at_start{start, static_cast<uint32_t>((start * of_panel + first_tile) * 32 + lane)};
  const uint32_t to_next_panels = static_cast<uint32_t>((stride * of_panel - spans * R::kTiles) * 32);
  const auto advance = [&](Next& next) {
    next.data += R::kTiles * 32;
    if (++next.span == spans) next.span = 0, next.panel += stride, next.data += to_next_panels;
    if (++next.slot == R::kDepth) next.slot = 0;
  };
  // What is no part of the slice keeps what its place held: numbers, which x's zeros take away.
  const auto fetch_weight = [&](const Next& next) {
    const int left = of_slice - next.span * R::kTiles;
    const uint4* const from = p.w.data + next.data;
    uint4* const to = ring + next.slot * R::kPieces + lane;
#pragma unroll
    for (int i = 0; i < kW; ++i)
#pragma unroll
      for (int j = 0; j < R::kTiles; ++j)
        if (next.panel + i < panels && j < left)
          copy_16_bytes(to + (i * R::kTiles + j) * 32, from + i * of_panel * 32 + j * 32, true);
    if constexpr (L::kGrouped) {
      if (lane < R::kScalePieces) {
        const int i = lane / L::kScalePieces / R::kTiles, j = lane / L::kScalePieces % R::kTiles;
        const bool there = next.panel + i < panels && j < left;
        const uint32_t* scales =
            group_scales<kFormat>(p.w, next.panel + i, first_tile + next.span * R::kTiles + j);
        copy_16_bytes(to + R::kScales, there ? scales + lane % L::kScalePieces * 4 : p.w.scales, there);
      }
    }
  };
  const auto fetch_x = [&](const Next& next) {
    const int k = next.span * R::kSpan;
    const bool there = next.panel < panels && k < live;
#pragma unroll
    for (int j = 0; j < kXCopies; ++j)
      if (x[j])  // what stands in place of other rows is multiplied, but no row of y has it
        copy_16_bytes(ring + next.slot * R::kPieces + R::x_place(j * kXAtOnce + lane / R::kRun, piece),
                      there ? x[j] + k : x[j], there);
    commit_copies();
  };
  let_next_start();
  Next ahead = at_start;
#pragma unroll
  for (int i = 0; i < R::kDepth - 1 && spans > 0; ++i)
    fetch_weight(ahead), advance(ahead);  // nobody writes weights
  wait_for_previous();
  ahead = at_start;
#pragma unroll
  for (int i = 0; i < R::kDepth - 1 && spans > 0; ++i) fetch_x(ahead), advance(ahead);
  int slot = 0;
  for (int panel = start; panel < panels; panel += stride) {
    Factors factors[kW];
    if constexpr (!L::kGrouped) {
#pragma unroll
      for (int i = 0; i < kW; ++i) factors[i] = row_factors<kFormat>(p.w, panel + i, lane);
    }
    float sum[kW][kX][4] = {};
    for (int span = 0; span < spans; ++span) {
      wait_for_copies<R::kDepth - 2>();
      __syncwarp();
      const uint4* from = ring + slot * R::kPieces;
      uint4 weights[kW][R::kTiles];
      uint32_t scales[kW][R::kTiles][L::kGrouped ? L::kWords : 1], right[R::kSpan / 32][kX][4];
#pragma unroll
      for (int i = 0; i < kW; ++i)
#pragma unroll
        for (int j = 0; j < R::kTiles; ++j) {
          const int tile = i * R::kTiles + j;
          weights[i][j] = from[tile * 32 + lane];
#pragma unroll
          for (int word = 0; word < L::kWords; ++word)
            scales[i][j][word] = reinterpret_cast<const uint32_t*>(
                from + R::kScales)[(tile * L::kWords + word) * 8 + lane / 4];
        }
#pragma unroll
      for (int h = 0; h < R::kSpan / 32; ++h)
#pragma unroll
        for (int j = 0; j < kX; ++j)
          load_matrices(right[h][j], from + R::x_place(j * 8 + lane % 8, h * 4 + lane / 8));
      fetch_weight(ahead);  // to the slot that all lanes read a step ago
      fetch_x(ahead);
      advance(ahead);
      if (++slot == R::kDepth) slot = 0;
#pragma unroll
      for (int h = 0; h < R::kSpan / 32; ++h)
#pragma unroll
        for (int i = 0; i < kW; ++i) {
          const int tile = h / L::kHalves, of_tile = h % L::kHalves;
          if constexpr (L::kGrouped)
            factors[i] = factors_of_group<kFormat>(scales[i][tile][of_tile * L::kWords / L::kHalves]);
          Fragment left[2];
          widen_half<kFormat>(weights[i][tile], of_tile, factors[i], left[0], left[1]);
#pragma unroll
          for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int j = 0; j < kX; ++j)
              multiply_add(sum[i][j], left[half], right[h][j][2 * half], right[h][j][2 * half + 1]);
        }
    }
    add_slices(sum, parts, p.y, p.bias, int64_t{panel} * kPanelRows, row, p.n, p.m);
    __syncthreads();  // the parts are read
  }
  wait_for_copies<0>();
}

template <Narrow kFormat, int kW, int kX, class C>
void launch_few(const Product<C>& p) {
  using R = Ring<kFormat, kW, kX>;
  static_assert(R::bytes(R::kMostDepth - 1) <= kSharedAnywhere);
  const size_t bytes = R::bytes(is_roomy(capability()) ? R::kMostDepth : R::kMostDepth - 1);
  static const bool once = (allow_shared("narrow_linear", few_rows<kFormat, kW, kX, C>, bytes), true);
  (void)once;
  const int64_t over = divide_up(p.m, kX * 8), runs = divide_up(p.n, kW * kPanelRows),
                blocks = divide_up(2 * processors(), over);
  launch_early(few_rows<kFormat, kW, kX, C>,
               dim3(static_cast<unsigned>(over), static_cast<unsigned>(runs < blocks ? runs : blocks)),
               kSliceThreads, bytes, p);
}

// Two panels of four bits at once read x half as often, where there are enough of them for all blocks.
template <Narrow kFormat, int kX, class C>
void launch_few(const Product<C>& p) {
  if constexpr (Layout<kFormat>::kColumns == 64) {
    if (p.n >= 4 * processors() * kPanelRows) return launch_few<kFormat, 2, kX>(p);
  }
  launch_few<kFormat, 1, kX>(p);
}

void multiply_few(const NarrowLinearArgs& args) {
  const int64_t m = args.x.rows(), n = args.y.cols(), k = args.x.cols();
  for_float_type(args.y.dtype, "narrow_linear", [&]<class C>(C) {
    const Product<C> p{Panels(args.data, args.scales, n),
                       rows_of<const bf16>(args.x),
                       rows_of<C>(args.y),
                       args.bias.defined() ? args.bias.ptr<const bf16>() : nullptr,
                       m,
                       n,
                       k,
                       divide_up(divide_up(k, kStep), kSlices) * kStep};
    for_format(args.format,
               [&]<Narrow kFormat>() { m <= 8 ? launch_few<kFormat, 1>(p) : launch_few<kFormat, 2>(p); });
  });
}

// Rows of bf16 that the panels stand for. A thread: a lane's part of a tile.
template <Narrow kFormat>
__global__ void widen_tiles(Panels w, bf16* to, const int32_t* counts, int64_t panels_of_group) {
  using L = Layout<kFormat>;
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, tile = at / 32;
  const int lane = static_cast<int>(at % 32);
  const int panel = static_cast<int>(tile / w.tiles), of_panel = static_cast<int>(tile % w.tiles);
  const int64_t first = panel * kPanelRows + lane / 4;
  if (first >= w.rows || (counts && counts[panel / panels_of_group] == 0)) return;
  const bool both = first + 8 < w.rows;
  const int64_t pitch = w.tiles * L::kColumns;
  bf16* out = to + first * pitch + of_panel * L::kColumns + lane % 4 * 2;
  const uint4 q = w.data[at];
  Factors factors;
  if constexpr (!L::kGrouped) factors = row_factors<kFormat>(w, panel, lane);
#pragma unroll
  for (int half = 0; half < L::kHalves; ++half) {
    if constexpr (L::kGrouped)
      factors = factors_of_group<kFormat>(
          group_scales<kFormat>(w, panel, of_panel)[half * L::kWords / L::kHalves * 8 + lane / 4]);
    Fragment left[2];
    widen_half<kFormat>(q, half, factors, left[0], left[1]);
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i % 2 == 0 || both)
          *reinterpret_cast<uint32_t*>(out + i % 2 * 8 * pitch + half * 32 + j * 16 + i / 2 * 8) = left[j][i];
  }
}

// Rows of the weight, whole tiles of them, that are widened at once: a head's 128 thousand would take 1 GB.
int64_t rows_at_once(const NarrowLinearArgs& args) {
  constexpr int64_t kMost = int64_t{256} << 20, kRows = 128;
  const auto bytes = static_cast<int64_t>(widened_bytes(args.format, args.data, kRows));
  return std::min(args.y.cols(), std::max<int64_t>(1, kMost / bytes) * kRows);
}

TensorView part_of(TensorView all, int dim, int64_t first, int64_t count) {
  const auto i = static_cast<size_t>(dim);
  all.data = all.ptr<std::byte>() + first * all.strides[i] * static_cast<int64_t>(size_of(all.dtype));
  all.dims[i] = count;
  return all;
}

// The weight, then a product that reads none of it before it is there; so many rows after so many.
void multiply_many(KernelContext& context, const NarrowLinearArgs& args) {
  const int64_t n = args.y.cols(), most = rows_at_once(args);
  const int64_t of_scales = columns_of_scale(args.format) == 0 ? 1 : kPanelRows;
  for (int64_t first = 0; first < n; first += most) {
    const int64_t count = std::min(most, n - first), panels = divide_up(count, kPanelRows);
    MatmulArgs product;
    static_cast<TensorView&>(product.a) = args.x;
    static_cast<TensorView&>(product.b) = widen_panels(
        context, args.format, part_of(args.data, 0, first / kPanelRows, panels),
        part_of(args.scales, 0, first / of_scales, divide_up(count, of_scales)), count, args.x.cols());
    static_cast<TensorView&>(product.out) = part_of(args.y, 1, first, count);
    if (args.bias.defined()) static_cast<TensorView&>(product.bias) = part_of(args.bias, 0, first, count);
    product.trans_b = product.steady = true;
    multiply_steadily(product);
  }
}

void run(KernelContext& context, const NarrowLinearArgs& args) {
  const int64_t m = args.x.rows();
  if (m == 0) return;
  // As multiply_steadily() has it: what is not like that is summed in another order.
  const bool by_pieces = reinterpret_cast<uintptr_t>(args.x.data) % 16 == 0 && args.x.row_stride() % 8 == 0 &&
                         args.x.cols() % 8 == 0 && args.y.row_stride() % 4 == 0 &&
                         reinterpret_cast<uintptr_t>(args.y.data) % 16 == 0;
  if (!by_pieces || m > kManyRows)
    multiply_many(context, args);
  else if (m <= kFewRows || !multiply_narrow_by_warpgroups(args))
    multiply_few(args);
  check_launch("narrow_linear");
}

size_t workspace(const NarrowLinearArgs& args, int) {
  return widened_bytes(args.format, args.data, rows_at_once(args));
}

const CudaKernel<NarrowLinearArgs> kKernel{kNarrowLinear, &run, &workspace};

}  // namespace

size_t widened_bytes(Narrow format, const TensorView& data, int64_t rows) {
  return static_cast<size_t>(rows * (data.cols() / kTileBytes) * tile_columns(format)) * sizeof(bf16);
}

TensorView widen_panels(KernelContext& context, Narrow format, const TensorView& data,
                        const TensorView& scales, int64_t rows, int64_t columns, const int32_t* counts,
                        int64_t groups) {
  const Panels panels(data, scales, rows);
  TensorView wide = data;
  wide.dtype = DType::kBF16;
  wide.data = context.workspace.data();
  wide.dims[0] = rows, wide.dims[1] = columns;
  wide.strides[0] = panels.tiles * tile_columns(format);
  for_format(format, [&]<Narrow kFormat>() {
    widen_tiles<kFormat><<<static_cast<unsigned>(divide_up(data.dims[0] * panels.tiles * 32, 256)), 256>>>(
        panels, wide.ptr<bf16>(), counts, rows / groups / kPanelRows);
  });
  return wide;
}

}  // namespace flagscale::op
