// Bound by memory: a row of logits is read twice, the second time from L2 since a multiprocessor has one row
// at a time, and its gradient written. The next packs are under way while some are worked on. Rows that are
// too long for L2 are read once, by a cluster of blocks each.
#include "kernel/cuda/cuda.cuh"
#include "op/cross_entropy/cross_entropy.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 1024, kAtOnce = 4;  // packs of a thread that are read before any is used

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

constexpr float kLog2E = 1.4426950408889634f, kLowest = -1e30f;  // lower than any logit

__device__ float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// exp(x - maximum) where `scaled` is maximum * kLog2E; 0 for -infinity.
__device__ float exponential(float x, float scaled) { return power_of_2(fmaf(x, kLog2E, -scaled)); }
// What a sum of exp(x - before) is multiplied by for exp(x - now).
__device__ float factor_of(float before, float now) { return power_of_2((before - now) * kLog2E); }

// The maximum over the block, and the sum of exp(x - maximum), from each thread's own.
__device__ void merge(float& maximum, float& sum) {
  __shared__ float maxima[kThreads / 32];
  float high = maximum;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, step));
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = high;
  __syncthreads();
  for (int i = 0; i < kThreads / 32; ++i) high = fmaxf(high, maxima[i]);
  sum = block_sum(sum * factor_of(maximum, high));
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

// body(first column, whether an odd one) of slice after slice; twice in the code, so that what turns about
// stays in registers.
template <class Body>
__device__ void for_slices(int64_t vocab, int64_t step, Body&& body) {
  for (int64_t first = 0; first < vocab; first += 2 * step) {
    body(first, std::false_type());
    if (first + step < vocab) body(first + step, std::true_type());
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
  float maximum = kLowest, sum = 0, packs[2][kAtOnce][N];
  const int64_t own = int64_t{threadIdx.x} * N;
  read_packs(x, own, a.vocab, packs[0]);
  for_slices(a.vocab, kStep, [&](int64_t first, auto turn) {
    read_packs(x, first + kStep + own, a.vocab, packs[!turn]);
    const auto& v = packs[turn];
    float high = maximum;
#pragma unroll
    for (int p = 0; p < kAtOnce; ++p)
#pragma unroll
      for (int j = 0; j < N; ++j) high = fmaxf(high, v[p][j]);
    const float scaled = high * kLog2E;
    sum *= factor_of(maximum, high);
    maximum = high;
#pragma unroll
    for (int p = 0; p < kAtOnce; ++p)
#pragma unroll
      for (int j = 0; j < N; ++j) sum += exponential(v[p][j], scaled);
  });
  if (a.learn) read_packs(x, own, a.vocab, packs[0]);
  merge(maximum, sum);
  if (threadIdx.x == 0) a.loss[row] = (maximum + logf(sum) - at_label) * mask;
  if (!a.learn) return;
  const float scale = a.scale * mask, factor = scale / sum, scaled = maximum * kLog2E;
  for_slices(a.vocab, kStep, [&](int64_t first, auto turn) {
    read_packs(x, first + kStep + own, a.vocab, packs[!turn]);
    __syncthreads();  // all have read this slice
    auto& p = packs[turn];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t i = first + own + k * kThreads * N;
#pragma unroll
      for (int j = 0; j < N; ++j) p[k][j] = exponential(p[k][j], scaled) * factor;
      if (i <= label && label < i + N) {
#pragma unroll
        for (int j = 0; j < N; ++j) p[k][j] -= i + j == label ? scale : 0.f;
      }
      if (i < a.vocab) store(a.gradient[row] + i, p[k]);
    }
  });
}

// Long rows, which the second-level cache does not hold until they are read again: each by a cluster of
// blocks, in their registers, kPacks packs of four a thread.
constexpr int kCluster = 8, kSliceThreads = 512;
constexpr int64_t kLongRow = int64_t{1} << 16;

__device__ inline void arrive_in_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
// What another block has where we have p.
__device__ inline float read_of_block(const float* p, int block) {
  float v = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile("{\n.reg .b32 a;\nmapa.shared::cluster.u32 a, %1, %2;\nld.shared::cluster.f32 %0, [a];\n}\n"
               : "=f"(v)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(p))), "r"(block)
               : "memory");
#endif
  return v;
}

template <int kPacks, class D>
__global__ void __launch_bounds__(kSliceThreads, 2) loss_long_rows(Loss<D> a) {
  constexpr int N = 4;
  __shared__ float highs[kSliceThreads / 32], of_block[2];  // its maximum and sum
  const int64_t row = blockIdx.x / kCluster;
  const int rank = static_cast<int>(blockIdx.x % kCluster), vocab = static_cast<int>(a.vocab);
  const float* x = a.logits[row];
  const auto column = [&](int p) {
    return ((p * kCluster + rank) * kSliceThreads + static_cast<int>(threadIdx.x)) * N;
  };
  const float mask = a.mask[row];
  if (mask == 0.f) {
    if (threadIdx.x == 0 && rank == 0) a.loss[row] = 0;
    const float none[N] = {};
    if (a.learn)
#pragma unroll
      for (int p = 0; p < kPacks; ++p)
        if (column(p) < vocab) store(a.gradient[row] + column(p), none);
    return;
  }
  const int32_t wanted = a.labels[row];
  const int label = wanted >= 0 && wanted < vocab ? wanted : 0;
  const float at_label = x[label];
  float v[kPacks][N];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (column(p) < vocab) {
      load(x + column(p), v[p]);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) v[p][j] = -INFINITY;
    }
  }
  float high = kLowest;
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
#pragma unroll
    for (int j = 0; j < N; ++j) high = fmaxf(high, v[p][j]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, step));
  if (threadIdx.x % 32 == 0) highs[threadIdx.x / 32] = high;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kSliceThreads / 32; ++i) high = fmaxf(high, highs[i]);
  const float scaled = high * kLog2E;
  float sum = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
#pragma unroll
    for (int j = 0; j < N; ++j) {
      v[p][j] = exponential(v[p][j], scaled);
      sum += v[p][j];
    }
  sum = block_sum(sum);
  if (threadIdx.x == 0) of_block[0] = high, of_block[1] = sum;
  arrive_in_cluster();
  wait_for_cluster();  // all of the row has been read, too
  float maxima[kCluster], highest = kLowest, total = 0;
#pragma unroll
  for (int i = 0; i < kCluster; ++i) {
    maxima[i] = read_of_block(&of_block[0], i);
    highest = fmaxf(highest, maxima[i]);
  }
#pragma unroll
  for (int i = 0; i < kCluster; ++i)
    total = fmaf(read_of_block(&of_block[1], i), factor_of(maxima[i], highest), total);
  arrive_in_cluster();
  if (threadIdx.x == 0 && rank == 0) a.loss[row] = (highest + logf(total) - at_label) * mask;
  if (a.learn) {
    const float scale = a.scale * mask, factor = scale / total * factor_of(high, highest);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int i = column(p);
#pragma unroll
      for (int j = 0; j < N; ++j) v[p][j] = v[p][j] * factor - (i + j == label ? scale : 0.f);
      if (i < vocab) store(a.gradient[row] + i, v[p]);
    }
  }
  wait_for_cluster();  // nobody reads of_block any more
}

template <int kPacks, class D>
void launch_long_rows(const Loss<D>& a, int64_t rows) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(rows * kCluster));
  config.blockDim = dim3(kSliceThreads);
  config.stream = cudaStreamPerThread;
  config.attrs = &cluster;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, loss_long_rows<kPacks, D>, a);
}

// False where rows are too short, or longer than registers hold.
template <class D>
bool launch_long_rows(const Loss<D>& a, int64_t rows) {
  constexpr int64_t kPack = int64_t{kCluster} * kSliceThreads * 4;
  if (capability() < 90 || a.vocab < kLongRow || a.vocab > 10 * kPack) return false;
  a.vocab <= 8 * kPack ? launch_long_rows<8>(a, rows) : launch_long_rows<10>(a, rows);
  return true;
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
    allow_shared("cross_entropy", kernel, shared_of_one_block());
    kernel<<<rows, kThreads, shared_of_one_block()>>>(a);
  };
  if (wide(args.logits) && launch_long_rows(a, args.logits.rows())) return;
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
