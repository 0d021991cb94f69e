// Bound by memory: 28 bytes a weight, 30 with the bf16 copy.
#include "kernel/cuda/cuda.cuh"
#include "op/adamw/adamw.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 256;

__device__ double block_sum_of_doubles(double x) {
  __shared__ double partial[kThreads];
  partial[threadIdx.x] = x;
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
  }
  __syncthreads();
  return partial[0];
}

__global__ void square_blocks(const float* grads, int64_t size, double* partials) {
  const int64_t first = int64_t{blockIdx.x} * kNormBlock,
                end = first + kNormBlock < size ? first + kNormBlock : size;
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < end; i += kThreads)
    sum += static_cast<double>(grads[i]) * grads[i];
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void root_of_sum(const double* partials, int64_t blocks, float* norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) sum += partials[i];
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(sum));
}

void grad_squares(KernelContext&, const GradSquaresArgs& args) {
  square_blocks<<<static_cast<unsigned>(args.sums.size()), kThreads>>>(
      args.grads.ptr<const float>(), args.grads.size(), args.sums.ptr<double>());
  check_launch("grad_squares");
}

void grad_norm(KernelContext&, const GradNormArgs& args) {
  root_of_sum<<<1, kThreads>>>(args.sums.ptr<const double>(), args.sums.size(), args.norm.ptr<float>());
  check_launch("grad_norm");
}

struct Update {
  float *param, *m, *v;
  const float *grad, *norm;
  bf16* copy;
  int64_t size;
  StepScalars step;
  float beta1, beta2, eps;
  bool decay, wide;
};

// kN neighbouring weights a thread at a time; the last ones, fewer, one by one.
constexpr int kN = 4;
__global__ void update_weights(Update a) {
  const float norm = *a.norm;
  if (!(norm - norm == 0.f)) return;  // inf - inf and nan are not 0
  const float clip = a.step.clip > 0 && a.step.clip < norm + 1e-6f ? a.step.clip / (norm + 1e-6f) : 1.f;
  const float keep = a.decay ? 1.f - a.step.lr * a.step.weight_decay : 1.f;
  const float inv1 = 1.f / a.step.bias1, inv2 = 1.f / a.step.bias2;
  const auto update = [&](float& param, float& m, float& v, float grad) {
    const float g = grad * clip;
    m = fmaf(a.beta1, m, (1.f - a.beta1) * g);
    v = fmaf(a.beta2, v, (1.f - a.beta2) * (g * g));
    param = fmaf(-a.step.lr, m * inv1 / (sqrtf(v * inv2) + a.eps), param * keep);
  };
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x,
                threads = int64_t{gridDim.x} * kThreads, packs = a.wide ? a.size / kN : 0;
  for (int64_t pack = thread; pack < packs; pack += threads) {
    const int64_t i = pack * kN;
    float p[kN], m[kN], v[kN], g[kN];
    load(a.grad + i, g);
    load(a.m + i, m);
    load(a.v + i, v);
    load(a.param + i, p);
#pragma unroll
    for (int j = 0; j < kN; ++j) update(p[j], m[j], v[j], g[j]);
    store(a.m + i, m);
    store(a.v + i, v);
    store(a.param + i, p);
    if (a.copy) store(a.copy + i, p);
  }
  for (int64_t i = packs * kN + thread; i < a.size; i += threads) {
    update(a.param[i], a.m[i], a.v[i], a.grad[i]);
    if (a.copy) put(a.copy + i, a.param[i]);
  }
}

// Whether kN numbers of each may be read at a time.
bool by_packs(const AdamWArgs& args) {
  const auto on = [](const TensorView& view, size_t bytes) {
    return !view.defined() || reinterpret_cast<uintptr_t>(view.data) % bytes == 0;
  };
  return on(args.param, 16) && on(args.m, 16) && on(args.v, 16) && on(args.grad, 16) && on(args.copy, 8);
}

void adamw(KernelContext&, const AdamWArgs& args) {
  if (args.step->skip != 0 || args.param.size() == 0) return;
  const Update a{args.param.ptr<float>(),
                 args.m.ptr<float>(),
                 args.v.ptr<float>(),
                 args.grad.ptr<const float>(),
                 args.norm.ptr<const float>(),
                 args.copy.defined() ? args.copy.ptr<bf16>() : nullptr,
                 args.param.size(),
                 *args.step,
                 args.beta1,
                 args.beta2,
                 args.eps,
                 args.decay,
                 by_packs(args)};
  const int64_t blocks = divide_up(a.size, kThreads * (a.wide ? kN : 1));
  update_weights<<<static_cast<unsigned>(blocks < 65536 ? blocks : 65536), kThreads>>>(a);
  check_launch("adamw");
}

const CudaKernel<GradSquaresArgs> kSquaresKernel{kGradSquares, &grad_squares};
const CudaKernel<GradNormArgs> kNormKernel{kGradNorm, &grad_norm};
const CudaKernel<AdamWArgs> kUpdateKernel{kAdamW, &adamw};

}  // namespace
}  // namespace flagscale::op
