// The meaning, for checks: a GPU serves these weights, a processor has op/packed_linear.
#include <vector>

#include "kernel/simd.h"
#include "op/narrow_grouped/narrow_grouped.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

void run(KernelContext&, const NarrowGroupedArgs& args) {
  const int64_t in = args.x.cols(), experts = args.counts.dims[0], out = args.y.cols(),
                panel_bytes = args.data.cols(), of_panel = scales_of_panel(args.format, in);
  std::vector<BF16> weight(static_cast<size_t>(in));
  int64_t first = 0;
  for (int64_t e = 0; e < experts; first += args.counts.ptr<const int32_t>()[e], ++e)
    for (int64_t j = 0; j < out; ++j) {
      const int64_t at = e * out + j, rows = args.counts.ptr<const int32_t>()[e];
      if (rows == 0) break;
      widen_row(
          args.format,
          {args.data.ptr<const uint8_t>() + at / kPanelRows * panel_bytes, static_cast<size_t>(panel_bytes)},
          at % kPanelRows, args.scales.ptr<const uint16_t>() + at / kPanelRows * of_panel, weight);
      for (int64_t i = first; i < first + rows; ++i) {
        const BF16* x = args.x.ptr<const BF16>() + i * args.x.row_stride();
        double sum = 0;
        for (int64_t k = 0; k < in; ++k)
          sum += static_cast<double>(to_float(x[k])) *
                 static_cast<double>(to_float(weight[static_cast<size_t>(k)]));
        args.y.ptr<BF16>()[i * args.y.row_stride() + j] = to_bf16(static_cast<float>(sum));
      }
    }
}

const CpuKernel<NarrowGroupedArgs> kKernel{kNarrowGrouped, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
