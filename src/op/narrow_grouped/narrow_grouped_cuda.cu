// Few rows an expert: a warp's panel comes as it lies and is widened in registers (grouped_few_cuda.cuh).
// More: the weights of experts that have rows are widened into memory first, and the product is that of
// op/grouped_matmul. Either way a sum is one chain along k.
#include "op/grouped_matmul/grouped_cuda.cuh"
#include "op/grouped_matmul/grouped_few_cuda.cuh"
#include "op/narrow_grouped/narrow_grouped.h"
#include "op/narrow_linear/narrow_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

template <Narrow kFormat>
struct OfExperts {
  using L = Layout<kFormat>;
  Panels panels;

  static constexpr int kTiles = few::kSpan / L::kColumns, kScales = kTiles * 32,
                       kScalePieces = kTiles * L::kScalePieces, kPieces = kScales + kScalePieces;
  template <int kX>
  static constexpr int kDepth = kX == 1   ? 8
                                : kX == 2 ? 6
                                          : 4;
  struct Read {
    uint4 q[kTiles];
    uint32_t scales[L::kGrouped ? kTiles * L::kWords : 1];
  };

  struct OfWarp {
    int panel;
    Factors factors{};
    __device__ OfWarp(const OfExperts& w, int expert, int first, int n, int lane)
        : panel((expert * n + first) / static_cast<int>(kPanelRows)) {
      if constexpr (!L::kGrouped) factors = row_factors<kFormat>(w.panels, panel, lane);
    }
    __device__ void fetch(const OfExperts& w, uint4* to, int k, int, int lane) const {
      const Panels& p = w.panels;
      const int tile = k / L::kColumns;
      const uint4* const from = p.data + (panel * p.tiles + tile) * 32 + lane;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const bool there = tile + i < p.tiles;
        copy_16_bytes(to + i * 32 + lane, there ? from + i * 32 : p.data, there);
      }
      if constexpr (L::kGrouped) {
        if (lane >= kScalePieces) return;
        const int own = tile + lane / L::kScalePieces;
        const bool there = own < p.tiles;
        copy_16_bytes(to + kScales + lane,
                      there ? group_scales<kFormat>(p, panel, own) + lane % L::kScalePieces * 4 : p.scales,
                      there);
      }
    }
    __device__ void fragments(const Read& a, int i, Fragment& first, Fragment& second) const {
      const int tile = i / L::kHalves, half = i % L::kHalves;
      if constexpr (L::kGrouped)
        widen_half<kFormat>(
            a.q[tile], half,
            factors_of_group<kFormat>(a.scales[tile * L::kWords + half * L::kWords / L::kHalves]), first,
            second);
      else
        widen_half<kFormat>(a.q[tile], half, factors, first, second);
    }
  };
  static __device__ void read(const uint4* from, Read& a, int lane) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) a.q[i] = from[i * 32 + lane];
#pragma unroll
    for (int i = 0; i < kTiles * L::kWords; ++i)
      a.scales[i] = reinterpret_cast<const uint32_t*>(from + kScales)[i * 8 + lane / 4];
  }
};

void multiply_widened(KernelContext& context, const NarrowGroupedArgs& args) {
  const int64_t experts = args.counts.dims[0];
  GroupedMatmulArgs product;
  static_cast<TensorView&>(product.a) = args.x;
  static_cast<TensorView&>(product.b) =
      widen_panels(context, args.format, args.data, args.scales, args.y.cols() * experts, args.x.cols(),
                   args.counts.ptr<const int32_t>(), experts);
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
    few::multiply(few::Product<OfExperts<kFormat>>{{Panels(args.data, args.scales, args.y.cols() * experts)},
                                                   rows_of<const bf16>(args.x),
                                                   rows_of<bf16>(args.y),
                                                   args.counts.ptr<const int32_t>(),
                                                   static_cast<int>(experts),
                                                   static_cast<int>(args.y.cols()),
                                                   static_cast<int>(args.x.cols())},
                  rows);
  });
  check_launch("narrow_grouped");
}

size_t workspace(const NarrowGroupedArgs& args, int) {
  return widened_bytes(args.format, args.data, args.y.cols() * args.counts.dims[0]);
}

const CudaKernel<NarrowGroupedArgs> kKernel{kNarrowGrouped, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
