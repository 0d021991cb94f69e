// Bound by memory, each: the arithmetic is in the products between them.
#include "op/adamw/step_cuda.cuh"
#include "op/muon/muon.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int64_t kBlock = 16384;  // a block's sum of squares; sums of blocks in fp64
constexpr float kLeastNorm = 1e-7f;

struct Direction {
  float* m;
  const float* grad;
  float* direction;
  double* partials;
  int64_t size;
  float momentum;
  bool nesterov, wide;
};

template <int kN>
__device__ void turn(const Direction& a, int64_t i, float rest, float& total) {
  float g[kN], m[kN], way[kN];
  load(a.grad + i, g);
  load(a.m + i, m);
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    const float share = g[j] * rest;
    m[j] = fmaf(a.momentum, m[j], share);
    way[j] = a.nesterov ? fmaf(a.momentum, m[j], share) : m[j];
    total = fmaf(way[j], way[j], total);
  }
  store(a.m + i, m);
  store(a.direction + i, way);
}

__global__ void turn_momentum(Direction a, const float* norm, const StepScalars* scalars) {
  constexpr int kN = 4;
  let_next_start();
  wait_for_previous();
  const int64_t first = int64_t{blockIdx.x} * kBlock, end = first + kBlock < a.size ? first + kBlock : a.size;
  float clip = 1, total = 0;
  if (gradient_scale(*scalars, norm, clip)) {
    const float rest = (1.f - a.momentum) * clip;
    const int64_t packed = a.wide ? first + (end - first) / kN * kN : first;
    for (int64_t i = first + int64_t{threadIdx.x} * kN; i < packed; i += kUpdateThreads * kN)
      turn<kN>(a, i, rest, total);
    for (int64_t i = packed + threadIdx.x; i < end; i += kUpdateThreads) turn<1>(a, i, rest, total);
  } else {
    for (int64_t i = first + threadIdx.x; i < end; i += kUpdateThreads) a.direction[i] = 0;
  }
  const double sum = block_sum_of_doubles(static_cast<double>(total));
  if (threadIdx.x == 0) a.partials[blockIdx.x] = sum;
}

__global__ void invert_length(const double* partials, int64_t blocks, float* inverse) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kUpdateThreads) sum += partials[i];
  const auto length = static_cast<float>(sqrt(block_sum_of_doubles(sum)));
  if (threadIdx.x == 0) *inverse = 1 / (length > kLeastNorm ? length : kLeastNorm);
}

struct Scale {
  float* x;
  const float* by;
  template <int kN>
  __device__ void at(int64_t i) const {
    float v[kN];
    load(x + i, v);
#pragma unroll
    for (int j = 0; j < kN; ++j) v[j] *= *by;
    store(x + i, v);
  }
};

template <class T>
struct Sum {
  const T *x, *y;
  T* out;
  float a, b;
  template <int kN>
  __device__ void at(int64_t i) const {
    float v[kN], w[kN];
    load(x + i, v);
    load(y + i, w);
#pragma unroll
    for (int j = 0; j < kN; ++j) v[j] = fmaf(a, v[j], b * w[j]);
    store(out + i, v);
  }
};

template <int kN, class Move>
__global__ void change_each(Move move, int64_t size, bool wide) {
  let_next_start();
  wait_for_previous();
  move_all<kN>(move, size, wide);
}

template <int kN, class Move>
void launch_each(const Move& move, int64_t size, bool wide) {
  launch_early(change_each<kN, Move>, update_blocks(size, wide ? kN : 1), kUpdateThreads, 0, move, size,
               wide);
}

int64_t blocks_of(const MuonDirectionArgs& args) { return divide_up(args.direction.size(), kBlock); }

void direction(KernelContext& context, const MuonDirectionArgs& args) {
  const int64_t size = args.direction.size(), blocks = blocks_of(args);
  if (size == 0) return;
  auto* const partials = reinterpret_cast<double*>(context.workspace.data());
  auto* const inverse = reinterpret_cast<float*>(partials + blocks);
  const Direction a{args.m.ptr<float>(),
                    args.grad.ptr<const float>(),
                    args.direction.ptr<float>(),
                    partials,
                    size,
                    args.momentum,
                    args.nesterov,
                    by_packs(4, {&args.m, &args.grad, &args.direction})};
  launch_early(turn_momentum, dim3(static_cast<unsigned>(blocks)), kUpdateThreads, 0, a,
               args.norm.ptr<const float>(), args.step.ptr<const StepScalars>());
  invert_length<<<1, kUpdateThreads>>>(partials, blocks, inverse);
  launch_each<4>(Scale{a.direction, inverse}, size, by_packs(4, {&args.direction}));
  check_launch("muon_direction");
}

size_t direction_workspace(const MuonDirectionArgs& args, int) {
  return static_cast<size_t>(blocks_of(args)) * sizeof(double) + sizeof(float);
}

void sum(KernelContext&, const MuonSumArgs& args) {
  const int64_t size = args.out.size();
  if (size == 0) return;
  for_float_type(args.out.dtype, "muon_sum", [&]<class T>(T) {
    constexpr int kN = kWide<T>;
    launch_each<kN>(Sum<T>{args.x.ptr<const T>(), args.y.ptr<const T>(), args.out.ptr<T>(), args.a, args.b},
                    size, by_packs(kN, {&args.x, &args.y, &args.out}));
  });
  check_launch("muon_sum");
}

template <class T>
struct Apply {
  float* param;
  const T* direction;
  bf16* copy;
  float scale;
  bool decay;
  template <int kN>
  __device__ void at(int64_t i, const StepScalars& step, float) const {
    float p[kN], d[kN];
    load(param + i, p);
    load(direction + i, d);
    const float rate = -step.lr * scale, keep = kept_share(step, step.lr, decay);
#pragma unroll
    for (int j = 0; j < kN; ++j) p[j] = fmaf(rate, d[j], p[j] * keep);
    store(param + i, p);
    if (copy) store(copy + i, p);
  }
};

void apply(KernelContext&, const MuonApplyArgs& args) {
  for_float_type(args.direction.dtype, "muon_apply", [&]<class T>(T) {
    const Apply<T> move{args.param.ptr<float>(), args.direction.ptr<const T>(),
                        args.copy.defined() ? args.copy.ptr<bf16>() : nullptr, args.scale, args.decay};
    launch_update("muon_apply", move, args.norm, args.step, args.param.size(),
                  {&args.param, &args.direction, &args.copy});
  });
}

const CudaKernel<MuonDirectionArgs> kDirectionKernel{kMuonDirection, &direction, &direction_workspace};
const CudaKernel<MuonSumArgs> kSumKernel{kMuonSum, &sum};
const CudaKernel<MuonApplyArgs> kApplyKernel{kMuonApply, &apply};

}  // namespace
}  // namespace flagscale::op
