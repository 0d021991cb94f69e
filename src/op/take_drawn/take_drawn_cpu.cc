#include "kernel/simd.h"
#include "op/take_drawn/take_drawn.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

void run(KernelContext&, const TakeDrawnArgs& args) {
  const auto* ids = args.ids.ptr<const int32_t>();
  const auto* rows = args.rows.ptr<const int32_t>();
  for (int64_t i = 0; i < args.y.size(); ++i)
    args.y.ptr<int32_t>()[i] = rows[i] < 0 ? ids[i] : args.drawn.ptr<const int32_t>()[rows[i]];
}

const CpuKernel<TakeDrawnArgs> kKernel{kTakeDrawn, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
