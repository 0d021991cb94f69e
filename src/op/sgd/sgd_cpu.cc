// Bound by memory: 5 words of 4 bytes an element (3 read, 2 written), 3 without momentum.
#include "op/adamw/step_simd.h"
#include "op/sgd/sgd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

void sgd(KernelContext& context, const SgdArgs& args) {
  const StepScalars step = step_of(args.step);
  float clip = 1;
  if (!gradient_scale(step, args.norm, clip)) return;
  const F32 scale = F32::set(clip), lr = F32::set(-step.lr), momentum = F32::set(args.momentum);
  const F32 decay = F32::set(args.decay ? step.weight_decay : 0.f);
  float *p = args.param.ptr<float>(), *m = args.m.defined() ? args.m.ptr<float>() : nullptr;
  const float* g = args.grad.ptr<const float>();
  BF16* copy = args.copy.defined() ? args.copy.ptr<BF16>() : nullptr;
  for_update(context, args.param.size(), [&](int64_t i, int64_t n) {
    const F32 old = F32::load_n(p + i, n);
    F32 direction = F32::fma(decay, old, F32::load_n(g + i, n) * scale);
    if (m) {
      direction = F32::fma(momentum, F32::load_n(m + i, n), direction);
      direction.store_n(m + i, n);
    }
    const F32 updated = F32::fma(lr, direction, old);
    updated.store_n(p + i, n);
    if (copy) updated.store_n(copy + i, n);
  });
}

const CpuKernel<SgdArgs> kKernel{kSgd, kIsa, &sgd};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
