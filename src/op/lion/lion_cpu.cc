// Bound by memory: 5 words of 4 bytes an element, 3 read and 2 written.
#include "op/adamw/step_simd.h"
#include "op/lion/lion.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

// Twice, so that the least denormal number comes out as 1 too; 0 stays 0.
F32 sign(F32 x) {
  const F32 large = F32::set(3e38f);
  return F32::max(F32::min(x * large * large, F32::set(1.f)), F32::set(-1.f));
}

void lion(KernelContext& context, const LionArgs& args) {
  const StepScalars step = step_of(args.step);
  float clip = 1;
  if (!gradient_scale(step, args.norm, clip)) return;
  const F32 scale = F32::set(clip), lr = F32::set(-step.lr);
  const F32 b1 = F32::set(args.beta1), c1 = F32::set(1.f - args.beta1);
  const F32 b2 = F32::set(args.beta2), c2 = F32::set(1.f - args.beta2);
  const F32 keep = F32::set(args.decay ? 1.f - step.lr * step.weight_decay : 1.f);
  float *p = args.param.ptr<float>(), *m = args.m.ptr<float>();
  const float* g = args.grad.ptr<const float>();
  BF16* copy = args.copy.defined() ? args.copy.ptr<BF16>() : nullptr;
  for_update(context, args.param.size(), [&](int64_t i, int64_t n) {
    const F32 gi = F32::load_n(g + i, n) * scale, mi = F32::load_n(m + i, n);
    const F32 updated = F32::fma(lr, sign(F32::fma(b1, mi, c1 * gi)), F32::load_n(p + i, n) * keep);
    F32::fma(b2, mi, c2 * gi).store_n(m + i, n);
    updated.store_n(p + i, n);
    if (copy) updated.store_n(copy + i, n);
  });
}

const CpuKernel<LionArgs> kKernel{kLion, kIsa, &lion};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
