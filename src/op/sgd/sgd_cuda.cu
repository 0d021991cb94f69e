// Bound by memory, as on the CPU.
#include "op/adamw/step_cuda.cuh"
#include "op/sgd/sgd.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

struct Move {
  float *param, *m;
  const float* grad;
  bf16* copy;
  float momentum;
  bool decay;

  template <int kN>
  __device__ void at(int64_t i, const StepScalars& step, float clip) const {
    float p[kN], g[kN], way[kN] = {};
    load(grad + i, g);
    load(param + i, p);
    if (m) load(m + i, way);
    const float share = decay ? step.weight_decay : 0.f;
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      const float direction = fmaf(share, p[j], g[j] * clip);
      way[j] = m ? fmaf(momentum, way[j], direction) : direction;
      p[j] = fmaf(-step.lr, way[j], p[j]);
    }
    if (m) store(m + i, way);
    store(param + i, p);
    if (copy) store(copy + i, p);
  }
};

void sgd(KernelContext&, const SgdArgs& args) {
  const Move move{args.param.ptr<float>(),
                  args.m.defined() ? args.m.ptr<float>() : nullptr,
                  args.grad.ptr<const float>(),
                  args.copy.defined() ? args.copy.ptr<bf16>() : nullptr,
                  args.momentum,
                  args.decay};
  launch_update("sgd", move, args.norm, args.step, args.param.size(),
                {&args.param, &args.m, &args.grad, &args.copy});
}

const CudaKernel<SgdArgs> kKernel{kSgd, &sgd};

}  // namespace
}  // namespace flagscale::op
