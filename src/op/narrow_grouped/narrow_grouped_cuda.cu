// Few rows an expert: a warp's panel comes as it lies and is widened in registers (grouped_few.cuh). More:
// the weights of experts that have rows are widened into memory first, and the product is that of
// op/grouped_matmul. Either way a sum is one chain along k.
#include "op/grouped_matmul/grouped_cuda.cuh"
#include "op/grouped_matmul/grouped_few.cuh"
#include "op/narrow_grouped/narrow_grouped.h"
#include "op/narrow_linear/narrow_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

template <Narrow kFormat>
struct Panels {
  const uint4* data;
  const bf16* scales;
  int64_t tiles;  // of a panel

  static constexpr int kTiles = few::kSpan / static_cast<int>(kTileColumns), kPieces = kTiles * 32;
  template <int kX>
  static constexpr int kDepth = kX == 1   ? 8
                                : kX == 2 ? 6
                                          : 4;
  using Read = uint4[kTiles];

  struct OfWarp {
    const uint4* from;
    uint32_t factors[2];
    __device__ OfWarp(const Panels& w, int expert, int first, int n, int lane) {
      const int64_t row = int64_t{expert} * n + first;
      from = w.data + row / kPanelRows * w.tiles * 32 + lane;
#pragma unroll
      for (int half = 0; half < 2; ++half)
        factors[half] = factor_of<kFormat>(w.scales[row + half * 8 + lane / 4]);
    }
    __device__ void fetch(const Panels& w, uint4* to, int k, int, int lane) const {
      const int64_t tile = k / kTileColumns;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const bool there = tile + i < w.tiles;
        copy_16_bytes(to + i * 32 + lane, there ? from + (tile + i) * 32 : w.data, there);
      }
    }
    __device__ void fragments(const Read& q, int i, Fragment& first, Fragment& second) const {
      widen_tile<kFormat>(q[i], factors, first, second);
    }
  };
  static __device__ void read(const uint4* from, Read& q, int lane) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) q[i] = from[i * 32 + lane];
  }
};

void multiply_widened(KernelContext& context, const NarrowGroupedArgs& args) {
  const int64_t rows = args.scales.dims[0], tiles = args.data.cols() / kTileBytes,
                panels_of_expert = rows / args.counts.dims[0] / kPanelRows;
  TensorView wide = args.data;
  wide.dtype = DType::kBF16;
  wide.data = context.workspace.data();
  wide.dims[0] = rows, wide.dims[1] = args.x.cols();
  wide.strides[0] = tiles * kTileColumns;
  for_format(args.format, [&]<Narrow kFormat>() {
    widen_tiles<kFormat><<<static_cast<unsigned>(divide_up(args.data.dims[0] * tiles * 32, 256)), 256>>>(
        args.data.ptr<const uint4>(), args.scales.ptr<const bf16>(), wide.ptr<bf16>(), rows, tiles,
        args.counts.ptr<const int32_t>(), panels_of_expert);
  });
  GroupedMatmulArgs product;
  static_cast<TensorView&>(product.a) = args.x;
  static_cast<TensorView&>(product.b) = wide;
  static_cast<TensorView&>(product.counts) = args.counts;
  static_cast<TensorView&>(product.out) = args.y;
  product.trans_b = true;
  multiply_groups(product);
}

void run(KernelContext& context, const NarrowGroupedArgs& args) {
  constexpr int64_t kFew = 32;  // of an expert: more are worth widening its weight
  const int64_t rows = args.x.rows(), experts = args.counts.dims[0];
  if (rows == 0) return;
  // What is not like that is summed by multiply_groups() in another order.
  if (!few::by_pieces(args.x) || rows > kFew * experts) return multiply_widened(context, args);
  for_format(args.format, [&]<Narrow kFormat>() {
    few::multiply(few::Product<Panels<kFormat>>{{args.data.ptr<const uint4>(), args.scales.ptr<const bf16>(),
                                                 args.data.cols() / kTileBytes},
                                                rows_of<const bf16>(args.x),
                                                rows_of<bf16>(args.y),
                                                args.counts.ptr<const int32_t>(),
                                                static_cast<int>(experts),
                                                static_cast<int>(args.scales.dims[0] / experts),
                                                static_cast<int>(args.x.cols())},
                  rows);
  });
  check_launch("narrow_grouped");
}

size_t workspace(const NarrowGroupedArgs& args, int) {
  return static_cast<size_t>(args.scales.dims[0] * args.data.cols() / kPanelRows) * sizeof(bf16);
}

const CudaKernel<NarrowGroupedArgs> kKernel{kNarrowGrouped, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
