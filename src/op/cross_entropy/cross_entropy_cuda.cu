// Bound by memory: a row of logits is read twice (the second time mostly from L2) and its gradient written.
#include "kernel/cuda/cuda.cuh"
#include "op/cross_entropy/cross_entropy.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 512;

template <class D>
struct Loss {
  Rows<float> logits;
  Rows<D> gradient;
  const int32_t* labels;
  const float* mask;
  float* loss;
  int64_t vocab;
  float scale;
  bool learn;
};

// The maximum over the block, and the sum of exp(x - maximum), from each thread's own.
__device__ void merge(float& maximum, float& sum) {
  __shared__ float maxima[kThreads / 32];
  float high = maximum;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, step));
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = high;
  __syncthreads();
  for (int i = 0; i < kThreads / 32; ++i) high = fmaxf(high, maxima[i]);
  sum = block_sum(maximum == -INFINITY ? 0.f : sum * expf(maximum - high));
  maximum = high;
}

// dlogits = (exp(x - maximum) / sum - onehot) * scale. A narrower gradient begins where the logits do: a
// slice's logits are all read before any of its gradients is written, and a later slice's lie behind them.
template <int N, class D>
__global__ void __launch_bounds__(kThreads) loss_rows(Loss<D> a) {
  const int64_t row = blockIdx.x;
  const float* x = a.logits[row];
  const float mask = a.mask[row];
  if (mask == 0.f) {
    if (threadIdx.x == 0) a.loss[row] = 0;
    if (a.learn)
      for (int64_t i = threadIdx.x; i < a.vocab; i += kThreads) put(a.gradient[row] + i, 0.f);
    return;
  }
  const int32_t wanted = a.labels[row];
  const int64_t label = wanted >= 0 && wanted < a.vocab ? wanted : 0;
  const float at_label = x[label];
  float maximum = -INFINITY, sum = 0;
  for (int64_t i = int64_t{threadIdx.x} * N; i < a.vocab; i += kThreads * N) {
    float v[N], high = maximum;
    load(x + i, v);
#pragma unroll
    for (int j = 0; j < N; ++j) high = fmaxf(high, v[j]);
    if (high > maximum) sum *= expf(maximum - high);
    maximum = high;
#pragma unroll
    for (int j = 0; j < N; ++j) sum += expf(v[j] - high);
  }
  merge(maximum, sum);
  if (threadIdx.x == 0) a.loss[row] = (maximum + logf(sum) - at_label) * mask;
  if (!a.learn) return;
  const float scale = a.scale * mask, factor = scale / sum;
  for (int64_t first = 0; first < a.vocab; first += kThreads * N) {
    const int64_t i = first + int64_t{threadIdx.x} * N;
    float p[N] = {};
    if (i < a.vocab) load(x + i, p);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < N; ++j) p[j] = expf(p[j] - maximum) * factor - (i + j == label ? scale : 0.f);
    if (i < a.vocab) store(a.gradient[row] + i, p);
  }
}

template <class D>
void launch(const CrossEntropyArgs& args, const TensorView& gradient) {
  const Loss<D> a{rows_of<float>(args.logits),
                  rows_of<D>(gradient),
                  args.labels.ptr<const int32_t>(),
                  args.mask.ptr<const float>(),
                  args.loss.ptr<float>(),
                  args.logits.cols(),
                  args.grad_scale ? *args.grad_scale : 0.f,
                  args.grad_scale != nullptr};
  const auto rows = static_cast<unsigned>(args.logits.rows());
  if (wide(args.logits))
    loss_rows<4><<<rows, kThreads>>>(a);
  else
    loss_rows<1><<<rows, kThreads>>>(a);
}

void run(KernelContext&, const CrossEntropyArgs& args) {
  if (args.logits.dtype != DType::kF32) no_kernel_for("cross_entropy", args.logits.dtype);
  if (args.logits.rows() == 0) return;
  if (args.dlogits.defined())
    launch<bf16>(args, args.dlogits);
  else
    launch<float>(args, args.logits);
  check_launch("cross_entropy");
}

const CudaKernel<CrossEntropyArgs> kKernel{kCrossEntropy, &run};

}  // namespace
}  // namespace flagscale::op
