// Bound by memory, as on the CPU.
#include "op/adamw/step_cuda.cuh"
#include "op/lion/lion.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

struct Move {
  float *param, *m;
  const float* grad;
  bf16* copy;
  float beta1, beta2;
  bool decay;

  template <int kN>
  __device__ void at(int64_t i, const StepScalars& step, float clip) const {
    float p[kN], kept[kN], g[kN];
    load(grad + i, g);
    load(m + i, kept);
    load(param + i, p);
    const float keep = kept_share(step, step.lr, decay);
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      const float gradient = g[j] * clip, way = fmaf(beta1, kept[j], (1.f - beta1) * gradient);
      const float sign = way > 0 ? 1.f : way < 0 ? -1.f : way;
      p[j] = fmaf(-step.lr, sign, p[j] * keep);
      kept[j] = fmaf(beta2, kept[j], (1.f - beta2) * gradient);
    }
    store(m + i, kept);
    store(param + i, p);
    if (copy) store(copy + i, p);
  }
};

void lion(KernelContext&, const LionArgs& args) {
  const Move move{args.param.ptr<float>(),
                  args.m.ptr<float>(),
                  args.grad.ptr<const float>(),
                  args.copy.defined() ? args.copy.ptr<bf16>() : nullptr,
                  args.beta1,
                  args.beta2,
                  args.decay};
  launch_update("lion", move, args.norm, args.step, args.param.size(),
                {&args.param, &args.m, &args.grad, &args.copy});
}

const CudaKernel<LionArgs> kKernel{kLion, &lion};

}  // namespace
}  // namespace flagscale::op
