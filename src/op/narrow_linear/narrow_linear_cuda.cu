// Few rows: a warp has a slice of k, as in op/matmul/steady_cuda.cu; its weights come to registers as they
// lie, 16 bytes a lane, and are widened there. Bound by reading them. Up to kManyRows: warpgroups. More: the
// weight is widened into memory first, 5 bytes moved for each of its own, and the product is that of
// op/matmul.
#include "kernel/cuda/warpgroup.cuh"
#include "op/matmul/steady_slices.cuh"
#include "op/narrow_linear/narrow_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int64_t kFewRows = 16, kManyRows = 256;

template <class C>
struct Product {
  const uint4* w;
  Rows<const bf16> x;
  Rows<C> y;
  const bf16 *scales, *bias;
  int64_t m, n, k, slice;
};

// What a warp has under way: kDepth steps of kSpan of k, tiles of the weight and pieces of 16 bytes of x's
// rows.
template <int kX>
struct Ring {
  static constexpr int kSpan = kX == 1 ? 128 : 64, kTiles = kSpan / static_cast<int>(kTileColumns);
  static constexpr int kRun = kSpan / 8, kWeight = kTiles * 32, kPieces = kWeight + kX * 8 * kRun;
  static constexpr int kDepth = kX == 1 ? 3 : 4, kOfRings = kSlices * kDepth * kPieces;
  static constexpr size_t kBytes =
      kOfRings * sizeof(uint4) + sizeof(float) * kSlices * kPanelRows * (kX * 8 + 1);
  // Eight rows' pieces fall on different banks.
  static __device__ int x_place(int row, int piece) { return kWeight + row * kRun + (piece ^ row % 8); }
};

// A block takes panel after panel, kX * 8 rows of x; a warp: one slice of them. The next panel's weights are
// under way while this one's slices meet.
template <Narrow kFormat, int kX, class C>
__global__ void __launch_bounds__(kSliceThreads, 2) few_rows(Product<C> p) {
  using R = Ring<kX>;
  constexpr int kXAtOnce = 32 / R::kRun, kXCopies = kX * 8 / kXAtOnce;
  extern __shared__ uint4 shared[];
  auto* parts = reinterpret_cast<float*>(shared + R::kOfRings);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = int64_t{blockIdx.x} * kX * 8, begin = warp * p.slice,
                end = begin + p.slice < p.k ? begin + p.slice : p.k;
  const int panels = static_cast<int>((p.n + kPanelRows - 1) / kPanelRows),
            spans = begin < end ? static_cast<int>((end - begin + R::kSpan - 1) / R::kSpan) : 0;
  const int64_t tiles = (p.k + kTileColumns - 1) / kTileColumns,
                of_slice = (end + kTileColumns - 1) / kTileColumns;
  uint4* ring = shared + warp * R::kDepth * R::kPieces;
  const int piece = lane % R::kRun;
  const bf16* x[kXCopies];
#pragma unroll
  for (int j = 0; j < kXCopies; ++j) {
    const int64_t at = row + j * kXAtOnce + lane / R::kRun;
    x[j] = at < p.m ? p.x[at] + piece * 8 : nullptr;
  }
  struct Next {
    int panel, span = 0, slot = 0;
  };
  const auto advance = [&](Next& next) {
    if (++next.span == spans) next.span = 0, next.panel += static_cast<int>(gridDim.y);
    if (++next.slot == R::kDepth) next.slot = 0;
  };
  const auto fetch_weight = [&](const Next& next) {
    const int64_t first = begin / kTileColumns + next.span * R::kTiles;
    const uint4* from = p.w + (int64_t{next.panel} * tiles + first) * 32 + lane;
#pragma unroll
    for (int i = 0; i < R::kTiles; ++i) {
      const bool there = next.panel < panels && first + i < of_slice;
      copy_16_bytes(ring + next.slot * R::kPieces + i * 32 + lane, there ? from + i * 32 : p.w, there);
    }
  };
  const auto fetch_x = [&](const Next& next) {
    const int64_t k = begin + next.span * R::kSpan;
    const bool there = next.panel < panels && k + piece * 8 < end;
#pragma unroll
    for (int j = 0; j < kXCopies; ++j)
      copy_16_bytes(ring + next.slot * R::kPieces + R::x_place(j * kXAtOnce + lane / R::kRun, piece),
                    there && x[j] ? x[j] + k : p.x.data, there && x[j]);
    commit_copies();
  };
  let_next_start();
  Next ahead{static_cast<int>(blockIdx.y)};
#pragma unroll
  for (int i = 0; i < R::kDepth - 1 && spans > 0; ++i)
    fetch_weight(ahead), advance(ahead);  // nobody writes weights
  wait_for_previous();
  ahead = {static_cast<int>(blockIdx.y)};
#pragma unroll
  for (int i = 0; i < R::kDepth - 1 && spans > 0; ++i) fetch_x(ahead), advance(ahead);
  int slot = 0;
  for (int panel = static_cast<int>(blockIdx.y); panel < panels; panel += static_cast<int>(gridDim.y)) {
    const int64_t first = int64_t{panel} * kPanelRows;
    uint32_t factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = first + half * 8 + lane / 4;
      factors[half] = factor_of<kFormat>(p.scales[at < p.n ? at : p.n - 1]);
    }
    float sum[1][kX][4] = {};
    for (int span = 0; span < spans; ++span) {
      wait_for_copies<R::kDepth - 2>();
      __syncwarp();
      const uint4* from = ring + slot * R::kPieces;
      uint4 weights[R::kTiles];
      uint32_t right[R::kTiles][kX][4];
#pragma unroll
      for (int h = 0; h < R::kTiles; ++h) {
        weights[h] = from[h * 32 + lane];
#pragma unroll
        for (int j = 0; j < kX; ++j)
          load_matrices(right[h][j], from + R::x_place(j * 8 + lane % 8, h * 4 + lane / 8));
      }
      fetch_weight(ahead);  // to the slot that all lanes read a step ago
      fetch_x(ahead);
      advance(ahead);
      if (++slot == R::kDepth) slot = 0;
#pragma unroll
      for (int h = 0; h < R::kTiles; ++h) {
        Fragment left[2];
        widen_tile<kFormat>(weights[h], factors, left[0], left[1]);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int j = 0; j < kX; ++j)
            multiply_add(sum[0][j], left[half], right[h][j][2 * half], right[h][j][2 * half + 1]);
      }
    }
    add_slices(sum, parts, p.y, p.bias, first, row, p.n, p.m);
    __syncthreads();  // the parts are read
  }
  wait_for_copies<0>();
}

template <Narrow kFormat, int kX, class C>
void launch_few(const Product<C>& p) {
  constexpr size_t kBytes = Ring<kX>::kBytes;
  static const bool once =
      (cudaFuncSetAttribute(few_rows<kFormat, kX, C>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                            static_cast<int>(kBytes)),
       true);
  (void)once;
  const int64_t over = divide_up(p.m, kX * 8), panels = divide_up(p.n, kPanelRows),
                blocks = divide_up(2 * processors(), over);
  launch_early(few_rows<kFormat, kX, C>,
               dim3(static_cast<unsigned>(over), static_cast<unsigned>(panels < blocks ? panels : blocks)),
               kSliceThreads, kBytes, p);
}

void multiply_few(const NarrowLinearArgs& args) {
  const int64_t m = args.x.rows(), n = args.scales.dims[0], k = args.x.cols();
  for_float_type(args.y.dtype, "narrow_linear", [&]<class C>(C) {
    const Product<C> p{args.data.ptr<const uint4>(),
                       rows_of<const bf16>(args.x),
                       rows_of<C>(args.y),
                       args.scales.ptr<const bf16>(),
                       args.bias.defined() ? args.bias.ptr<const bf16>() : nullptr,
                       m,
                       n,
                       k,
                       divide_up(divide_up(k, kStep), kSlices) * kStep};
    for_format(args.format,
               [&]<Narrow kFormat>() { m <= 8 ? launch_few<kFormat, 1>(p) : launch_few<kFormat, 2>(p); });
  });
}

// The whole weight, then a product that reads none of it before it is there.
void multiply_many(KernelContext& context, const NarrowLinearArgs& args) {
  const int64_t rows = args.scales.dims[0], tiles = args.data.cols() / kTileBytes;
  TensorView wide = args.data;
  wide.dtype = DType::kBF16;
  wide.data = context.workspace.data();
  wide.dims[0] = rows, wide.dims[1] = args.x.cols();
  wide.strides[0] = tiles * kTileColumns;
  for_format(args.format, [&]<Narrow kFormat>() {
    widen_tiles<kFormat><<<static_cast<unsigned>(divide_up(args.data.dims[0] * tiles * 32, 256)), 256>>>(
        args.data.ptr<const uint4>(), args.scales.ptr<const bf16>(), wide.ptr<bf16>(), rows, tiles, nullptr,
        1);
  });
  MatmulArgs product;
  static_cast<TensorView&>(product.a) = args.x;
  static_cast<TensorView&>(product.b) = wide;
  static_cast<TensorView&>(product.out) = args.y;
  static_cast<TensorView&>(product.bias) = args.bias;
  product.trans_b = product.steady = true;
  multiply_steadily(product);
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
  return static_cast<size_t>(args.scales.dims[0] * args.data.cols() / kPanelRows) * sizeof(bf16);
}

const CudaKernel<NarrowLinearArgs> kKernel{kNarrowLinear, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
