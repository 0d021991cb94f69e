// The meaning, for checks: a processor serves op/packed_linear.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernel/simd.h"
#include "op/fp8_linear/fp8_linear.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

// A row of x: its numbers, and a scale a slice.
struct Rounded {
  std::vector<uint8_t> q;
  std::vector<float> scales;
};

Rounded rounded(const BF16* x, int64_t in) {
  Rounded row{std::vector<uint8_t>(static_cast<size_t>(in)), {}};
  for (int64_t k = 0; k < in; k += kFp8Numbers)
    row.scales.push_back(round_to_fp8(x + k, std::min(kFp8Numbers, in - k), &row.q[static_cast<size_t>(k)]));
  return row;
}

// A row of what is multiplied.
const BF16* row_of(const Fp8LinearArgs& args, int64_t i, std::vector<BF16>& gated) {
  const BF16* x = args.x.ptr<const BF16>() + i * args.x.row_stride();
  if (!args.up.defined()) return x;
  const BF16* up = args.up.ptr<const BF16>() + i * args.up.row_stride();
  for (size_t k = 0; k < gated.size(); ++k)
    gated[k] = to_bf16(to_float(x[k]) / (1 + std::exp(-to_float(x[k]))) * to_float(up[k]));
  return gated.data();
}

Rounded row_of(const Fp8LinearArgs& args, int64_t i, int64_t in) {
  if (args.x_scales.defined()) {
    const uint8_t* q = args.x.ptr<const uint8_t>() + i * args.x.row_stride();
    const float* scales = args.x_scales.ptr<const float>() + i * args.x_scales.row_stride();
    return {{q, q + in}, {scales, scales + args.x_scales.cols()}};
  }
  std::vector<BF16> gated(static_cast<size_t>(in));
  return rounded(row_of(args, i, gated), in);
}

void run(KernelContext&, const Fp8LinearArgs& args) {
  const int64_t in = args.x.cols(), out = args.scales.dims[0], pitch = args.data.cols() / kPanelRows;
  for (int64_t i = 0; i < args.x.rows(); ++i) {
    const Rounded x = row_of(args, i, in);
    for (int64_t j = 0; j < out; ++j) {
      const uint8_t* w = args.data.ptr<const uint8_t>() + j * pitch;
      double total = 0;
      for (int64_t k = 0; k < in; ++k)
        total += static_cast<double>(x.scales[static_cast<size_t>(k / kFp8Numbers)]) *
                 static_cast<double>(from_e4m3(x.q[static_cast<size_t>(k)])) *
                 static_cast<double>(from_e4m3(w[k]));
      total *= static_cast<double>(to_float(args.scales.ptr<const BF16>()[j]));
      if (args.bias.defined()) total += static_cast<double>(to_float(args.bias.ptr<const BF16>()[j]));
      const int64_t at = i * args.y.row_stride() + j;
      if (args.y.dtype == DType::kF32)
        args.y.ptr<float>()[at] = static_cast<float>(total);
      else
        args.y.ptr<BF16>()[at] = to_bf16(static_cast<float>(total));
    }
  }
}

const CpuKernel<Fp8LinearArgs> kKernel{kFp8Linear, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
