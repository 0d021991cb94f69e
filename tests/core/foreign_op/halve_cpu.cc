#include "kernel/simd.h"
#include "tests/core/foreign_op/halve.h"

namespace flagscale::foreign::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

void run(KernelContext&, const HalveArgs& args) {
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    for_lanes<V>(args.x.size(), [&](int64_t i, int64_t n) {
      (V::load_n(args.x.ptr<const T>() + i, n) * V::set(0.5f)).store_n(args.y.ptr<T>() + i, n);
    });
  });
}

const CpuKernel<HalveArgs> kKernel{kHalve, kIsa, &run};

}  // namespace
}  // namespace flagscale::foreign::FLAGSCALE_ISA
