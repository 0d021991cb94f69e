// Bound by memory: a row of logits is read twice, the second time from L2 since a multiprocessor has one row
// at a time, and its gradient written.
#include "kernel/cuda/cuda.cuh"
#include "op/cross_entropy/cross_entropy.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 1024, kAtOnce = 4;   // packs of a thread that are read before any is used
constexpr size_t kAlone = size_t{120} << 10;  // shared memory that leaves no room for a second block

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

// kAtOnce packs, one of all threads apart; -infinity beyond the row.
template <int N>
__device__ void read_packs(const float* x, int64_t first, int64_t vocab, float (&v)[kAtOnce][N]) {
#pragma unroll
  for (int p = 0; p < kAtOnce; ++p) {
    const int64_t i = first + p * kThreads * N;
    if (i < vocab) {
      load(x + i, v[p]);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) v[p][j] = -INFINITY;
    }
  }
}

// dlogits = (exp(x - maximum) / sum - onehot) * scale. A narrower gradient begins where the logits do: a
// slice's logits are all read before any of its gradients is written, and a later slice's lie behind them.
template <int N, class D>
__global__ void __launch_bounds__(kThreads) loss_rows(Loss<D> a) {
  constexpr int64_t kStep = int64_t{kThreads} * N * kAtOnce;
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
  for (int64_t first = int64_t{threadIdx.x} * N; first < a.vocab; first += kStep) {
    float v[kAtOnce][N], high = maximum;
    read_packs(x, first, a.vocab, v);
#pragma unroll
    for (int p = 0; p < kAtOnce; ++p)
#pragma unroll
      for (int j = 0; j < N; ++j) high = fmaxf(high, v[p][j]);
    if (high > maximum) sum *= expf(maximum - high);
    maximum = high;
#pragma unroll
    for (int p = 0; p < kAtOnce; ++p)
#pragma unroll
      for (int j = 0; j < N; ++j) sum += v[p][j] == -INFINITY ? 0.f : expf(v[p][j] - high);
  }
  merge(maximum, sum);
  if (threadIdx.x == 0) a.loss[row] = (maximum + logf(sum) - at_label) * mask;
  if (!a.learn) return;
  const float scale = a.scale * mask, factor = scale / sum;
  for (int64_t first = 0; first < a.vocab; first += kStep) {
    const int64_t begin = first + int64_t{threadIdx.x} * N;
    float p[kAtOnce][N];
    read_packs(x, begin, a.vocab, p);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t i = begin + k * kThreads * N;
#pragma unroll
      for (int j = 0; j < N; ++j) p[k][j] = expf(p[k][j] - maximum) * factor - (i + j == label ? scale : 0.f);
      if (i < a.vocab) store(a.gradient[row] + i, p[k]);
    }
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
  const auto run = [&](auto* kernel) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kAlone));
    kernel<<<rows, kThreads, kAlone>>>(a);
  };
  wide(args.logits) ? run(loss_rows<4, D>) : run(loss_rows<1, D>);
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
