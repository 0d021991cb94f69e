// The meaning, for checks: a processor serves op/packed_linear.
#include <cmath>
#include <vector>

#include "kernel/simd.h"
#include "op/fp8_linear/fp8_rows.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

void run_rows(KernelContext&, const Fp8RmsNormArgs& args) {
  const int64_t cols = args.x.cols(), pitch = args.numbers.cols();
  std::vector<BF16> row(static_cast<size_t>(cols));
  for (int64_t i = 0; i < args.x.rows(); ++i) {
    const BF16* x = args.x.ptr<const BF16>() + i * args.x.row_stride();
    if (args.delta.defined()) {
      const BF16* delta = args.delta.ptr<const BF16>() + i * args.delta.row_stride();
      BF16* sum = args.sum.ptr<BF16>() + i * args.sum.row_stride();
      for (int64_t k = 0; k < cols; ++k) sum[k] = to_bf16(to_float(x[k]) + to_float(delta[k]));
      x = sum;
    }
    double squares = 0;
    for (int64_t k = 0; k < cols; ++k)
      squares += static_cast<double>(to_float(x[k])) * static_cast<double>(to_float(x[k]));
    const auto rstd = static_cast<float>(
        1 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(args.eps)));
    for (int64_t k = 0; k < cols; ++k)
      row[static_cast<size_t>(k)] =
          to_bf16(to_float(x[k]) * rstd * to_float(args.weight.ptr<const BF16>()[k]));
    uint8_t* q = args.numbers.ptr<uint8_t>() + i * pitch;
    float* scales = args.scales.ptr<float>() + i * args.scales.cols();
    for (int64_t k = 0; k < cols; k += kFp8Numbers)
      scales[k / kFp8Numbers] =
          round_to_fp8(&row[static_cast<size_t>(k)], std::min(kFp8Numbers, cols - k), q + k);
    std::fill(q + cols, q + pitch, uint8_t{0});
  }
}

const CpuKernel<Fp8RmsNormArgs> kRows{kFp8RmsNorm, kIsa, &run_rows};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
