// The meaning, for checks: a processor serves op/packed_linear.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernel/simd.h"
#include "op/fp8_linear/fp8_linear.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

// Of a row of x: what stands for it, and a scale a slice.
struct Rounded {
  std::vector<double> q;
  std::vector<double> scales;
};

Rounded rounded(const BF16* x, int64_t in) {
  Rounded row{std::vector<double>(static_cast<size_t>(in)), {}};
  for (int64_t begin = 0; begin < in; begin += kFp8Numbers) {
    const int64_t end = std::min(in, begin + kFp8Numbers);
    float largest = 0;
    for (int64_t k = begin; k < end; ++k) largest = std::max(largest, std::fabs(to_float(x[k])));
    row.scales.push_back(static_cast<double>(largest / 448));
    if (largest == 0) continue;
    const float inverse = 448 / largest;
    for (int64_t k = begin; k < end; ++k)
      row.q[static_cast<size_t>(k)] =
          static_cast<double>(from_e4m3(to_e4m3(std::clamp(to_float(x[k]) * inverse, -448.f, 448.f))));
  }
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

void run(KernelContext&, const Fp8LinearArgs& args) {
  const int64_t in = args.x.cols(), out = args.scales.dims[0], pitch = args.data.cols() / kPanelRows;
  std::vector<BF16> gated(static_cast<size_t>(in));
  for (int64_t i = 0; i < args.x.rows(); ++i) {
    const Rounded x = rounded(row_of(args, i, gated), in);
    for (int64_t j = 0; j < out; ++j) {
      const uint8_t* w = args.data.ptr<const uint8_t>() + j * pitch;
      double total = 0;
      for (int64_t k = 0; k < in; ++k)
        total += x.scales[static_cast<size_t>(k / kFp8Numbers)] * x.q[static_cast<size_t>(k)] *
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
