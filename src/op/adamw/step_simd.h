#pragma once
// What every optimizer's kernel begins with. For *_cpu.cc files.

#include "kernel/simd.h"
#include "op/adamw/adamw.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;

static inline const StepScalars& step_of(const In& step) { return *step.ptr<const StepScalars>(); }

// Sets what the gradient is multiplied by, to clip it. False: nothing is to be updated.
static inline bool gradient_scale(const StepScalars& step, const In& norm, float& scale) {
  const float n = *norm.ptr<const float>();
  scale = step.clip > 0 && step.clip < n + 1e-6f ? step.clip / (n + 1e-6f) : 1.f;
  return step.skip == 0 && n - n == 0.f;  // inf - inf and nan are not 0
}

// Calls body(i, n) for lanes that cover [0, size), on all threads, in blocks of a fixed size.
template <class Body>
static inline void for_update(const KernelContext& context, int64_t size, Body&& body) {
  constexpr int64_t kBlock = 16384;
  context.team.for_each((size + kBlock - 1) / kBlock, [&](int64_t block) {
    const int64_t first = block * kBlock;
    for_lanes<F32>(size - first < kBlock ? size - first : kBlock,
                   [&](int64_t i, int64_t n) { body(first + i, n); });
  });
}

}  // namespace flagscale::op::FLAGSCALE_ISA
