#include <cmath>

#include "kernel/simd.h"
#include "op/argmax/argmax.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

int32_t best_of(const float* x, int64_t n) {
  int32_t best = kAllMinusInfinity;
  float most = -__builtin_inff();
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] != x[i] || x[i] == __builtin_inff()) return kNotANumber;
    if (x[i] > most) most = x[i], best = static_cast<int32_t>(i);
  }
  return best;
}

void run(KernelContext& context, const ArgmaxArgs& args) {
  context.team.for_each(args.x.rows(), [&](int64_t row) {
    args.best.ptr<int32_t>()[row] =
        best_of(args.x.ptr<const float>() + row * args.x.row_stride(), args.x.cols());
  });
}

const CpuKernel<ArgmaxArgs> kKernel{kArgmax, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
