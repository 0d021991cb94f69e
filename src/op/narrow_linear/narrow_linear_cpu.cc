// The meaning, for checks: a GPU serves these weights, a processor has op/packed_linear.
#include <vector>

#include "kernel/simd.h"
#include "op/narrow_linear/narrow_linear.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

void run(KernelContext&, const NarrowLinearArgs& args) {
  const int64_t in = args.x.cols(), out = args.y.cols(), of_panel = scales_of_panel(args.format, in);
  std::vector<BF16> weight(static_cast<size_t>(in));
  for (int64_t j = 0; j < out; ++j) {
    const int64_t panel_bytes = args.data.cols();
    widen_row(
        args.format,
        {args.data.ptr<const uint8_t>() + j / kPanelRows * panel_bytes, static_cast<size_t>(panel_bytes)},
        j % kPanelRows, args.scales.ptr<const uint16_t>() + j / kPanelRows * of_panel, weight);
    for (int64_t i = 0; i < args.x.rows(); ++i) {
      const BF16* x = args.x.ptr<const BF16>() + i * args.x.row_stride();
      double sum = args.bias.defined() ? static_cast<double>(to_float(args.bias.ptr<const BF16>()[j])) : 0;
      for (int64_t k = 0; k < in; ++k)
        sum += static_cast<double>(to_float(x[k])) *
               static_cast<double>(to_float(weight[static_cast<size_t>(k)]));
      const int64_t at = i * args.y.row_stride() + j;
      if (args.y.dtype == DType::kF32)
        args.y.ptr<float>()[at] = static_cast<float>(sum);
      else
        args.y.ptr<BF16>()[at] = to_bf16(static_cast<float>(sum));
    }
  }
}

const CpuKernel<NarrowLinearArgs> kKernel{kNarrowLinear, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
