// Bound by memory: 7 numbers an element (4 read, 3 written), one more for the bf16 copy.
#include "kernel/simd.h"
#include "op/adamw/adamw.h"
#include "op/adamw/step_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

// body(T{}) for the type of what is kept.
template <class Body>
void for_kept_type(DType dtype, Body&& body) {
  if (dtype == DType::kBF16)
    body(BF16{});
  else
    body(float{});
}

template <class T>
double squares(const T* x, int64_t n) {
  double total = 0;
  for (int64_t first = 0; first < n; first += 1024) {  // fp32 sums stay short
    F32 sum = F32::zero();
    for_lanes<F32>(n - first < 1024 ? n - first : 1024, [&](int64_t i, int64_t m) {
      const F32 v = F32::load_n(x + first + i, m);
      sum = F32::fma(v, v, sum);
    });
    total += static_cast<double>(sum.sum());
  }
  return total;
}

void grad_squares(KernelContext& context, const GradSquaresArgs& args) {
  const int64_t n = args.grads.size(), blocks = args.sums.size();
  double* const sums = args.sums.ptr<double>();
  for_kept_type(args.grads.dtype, [&]<class T>(T) {
    context.team.for_each(blocks, [&](int64_t b) {
      const int64_t first = b * kNormBlock;
      sums[b] = squares(args.grads.ptr<const T>() + first, n - first < kNormBlock ? n - first : kNormBlock);
    });
  });
}

void grad_norm(KernelContext&, const GradNormArgs& args) {
  double total = 0;
  for (int64_t b = 0; b < args.sums.size(); ++b) total += args.sums.ptr<const double>()[b];
  if (const float loss = args.loss.defined() ? *args.loss.ptr<const float>() : 0.f; loss - loss != 0.f)
    total = static_cast<double>(loss - loss);  // NaN
  *args.norm.ptr<float>() = static_cast<float>(std::sqrt(total));
}

template <class P, class M, class V, class G>
void update(KernelContext& context, const AdamWArgs& args, const StepScalars& step, float clip,
            int64_t size) {
  const F32 scale = F32::set(clip), b1 = F32::set(args.beta1), b2 = F32::set(args.beta2);
  const F32 c1 = F32::set(1.f - args.beta1), c2 = F32::set(1.f - args.beta2), eps = F32::set(args.eps);
  const F32 inv1 = F32::set(1.f / step.bias1), inv2 = F32::set(1.f / step.bias2), lr = F32::set(-step.lr);
  const F32 keep = F32::set(args.decay ? 1.f - step.lr * step.weight_decay : 1.f);
  P* p = args.param.ptr<P>();
  M* m = args.m.ptr<M>();
  V* v = args.v.ptr<V>();
  const G* g = args.grad.ptr<const G>();
  BF16* copy = args.copy.defined() ? args.copy.ptr<BF16>() : nullptr;
  for_update(context, size, [&](int64_t i, int64_t n) {
    const F32 gi = F32::load_n(g + i, n) * scale;
    const F32 mi = F32::fma(b1, F32::load_n(m + i, n), c1 * gi);
    const F32 vi = F32::fma(b2, F32::load_n(v + i, n), c2 * (gi * gi));
    const F32 update = mi * inv1 / (F32::sqrt(vi * inv2) + eps);
    const F32 pi = F32::fma(lr, update, F32::load_n(p + i, n) * keep);
    mi.store_n(m + i, n);
    vi.store_n(v + i, n);
    pi.store_n(p + i, n);
    if (copy) pi.store_n(copy + i, n);
  });
}

void adamw(KernelContext& context, const AdamWArgs& args) {
  const StepScalars& step = step_of(args.step);
  const int64_t size = args.param.size();
  float clip = 1;
  if (!gradient_scale(step, args.norm, clip)) return;
  for_kept_type(args.param.dtype, [&]<class P>(P) {
    for_kept_type(args.m.dtype, [&]<class M>(M) {
      for_kept_type(args.v.dtype, [&]<class V>(V) {
        for_kept_type(args.grad.dtype,
                      [&]<class G>(G) { update<P, M, V, G>(context, args, step, clip, size); });
      });
    });
  });
}

const CpuKernel<GradSquaresArgs> kSquaresKernel{kGradSquares, kIsa, &grad_squares};
const CpuKernel<GradNormArgs> kNormKernel{kGradNorm, kIsa, &grad_norm};
const CpuKernel<AdamWArgs> kUpdateKernel{kAdamW, kIsa, &adamw};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
