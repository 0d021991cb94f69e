// Bound by memory, each: the arithmetic is in the products between them.
#include "op/adamw/step_simd.h"
#include "op/muon/muon.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr int64_t kBlock = 16384;  // a sum of squares in fp32; sums of blocks in fp64
constexpr float kLeastNorm = 1e-7f;

void direction(KernelContext& context, const MuonDirectionArgs& args) {
  const int64_t size = args.direction.size(), blocks = (size + kBlock - 1) / kBlock;
  float *const m = args.m.ptr<float>(), *const d = args.direction.ptr<float>();
  const float* const g = args.grad.ptr<const float>();
  float clip = 1;
  if (!gradient_scale(step_of(args.step), args.norm, clip)) {
    std::memset(d, 0, static_cast<size_t>(size) * sizeof(float));
    return;
  }
  const F32 beta = F32::set(args.momentum), rest = F32::set((1 - args.momentum) * clip);
  auto* const partials = reinterpret_cast<double*>(context.workspace.data());
  context.team.for_each(blocks, [&](int64_t b) {
    const int64_t first = b * kBlock;
    F32 total = F32::zero();
    for_lanes<F32>(size - first < kBlock ? size - first : kBlock, [&](int64_t j, int64_t n) {
      const int64_t i = first + j;
      const F32 share = F32::load_n(g + i, n) * rest;
      const F32 kept = F32::fma(beta, F32::load_n(m + i, n), share);
      const F32 way = args.nesterov ? F32::fma(beta, kept, share) : kept;
      kept.store_n(m + i, n);
      way.store_n(d + i, n);
      total = F32::fma(way, way, total);
    });
    partials[b] = static_cast<double>(total.sum());
  });
  double squares = 0;
  for (int64_t b = 0; b < blocks; ++b) squares += partials[b];
  const auto length = static_cast<float>(std::sqrt(squares));
  const F32 inverse = F32::set(1 / (length > kLeastNorm ? length : kLeastNorm));
  for_update(context, size,
             [&](int64_t i, int64_t n) { (F32::load_n(d + i, n) * inverse).store_n(d + i, n); });
}

size_t direction_workspace(const MuonDirectionArgs& args, int) {
  return static_cast<size_t>((args.direction.size() + kBlock - 1) / kBlock) * sizeof(double);
}

// Calls body(T{}) for fp32 or bf16.
template <class Body>
void for_type(DType dtype, Body&& body) {
  if (dtype == DType::kBF16) return body(BF16{});
  body(float{});
}

void sum(KernelContext& context, const MuonSumArgs& args) {
  const F32 a = F32::set(args.a), b = F32::set(args.b);
  for_type(args.out.dtype, [&]<class T>(T) {
    const T *const x = args.x.ptr<const T>(), *const y = args.y.ptr<const T>();
    T* const out = args.out.ptr<T>();
    for_update(context, args.out.size(), [&](int64_t i, int64_t n) {
      F32::fma(a, F32::load_n(x + i, n), b * F32::load_n(y + i, n)).store_n(out + i, n);
    });
  });
}

void apply(KernelContext& context, const MuonApplyArgs& args) {
  const StepScalars step = step_of(args.step);
  float unused = 1;
  if (!gradient_scale(step, args.norm, unused)) return;
  const F32 rate = F32::set(-step.lr * args.scale);
  const F32 keep = F32::set(args.decay ? 1.f - step.lr * step.weight_decay : 1.f);
  float* const p = args.param.ptr<float>();
  BF16* const copy = args.copy.defined() ? args.copy.ptr<BF16>() : nullptr;
  for_type(args.direction.dtype, [&]<class T>(T) {
    const T* const d = args.direction.ptr<const T>();
    for_update(context, args.param.size(), [&](int64_t i, int64_t n) {
      const F32 updated = F32::fma(rate, F32::load_n(d + i, n), F32::load_n(p + i, n) * keep);
      updated.store_n(p + i, n);
      if (copy) updated.store_n(copy + i, n);
    });
  });
}

const CpuKernel<MuonDirectionArgs> kDirectionKernel{kMuonDirection, kIsa, &direction, &direction_workspace};
const CpuKernel<MuonSumArgs> kSumKernel{kMuonSum, kIsa, &sum};
const CpuKernel<MuonApplyArgs> kApplyKernel{kMuonApply, kIsa, &apply};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
