// Bound by memory: a row of logits is read twice, the second time from L2 since a multiprocessor has one row
// at a time, and its gradient written. The next packs are under way while some are worked on.
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
  const int32_t *labels, *tokens;
  const float* mask;
  float* loss;
  int64_t vocab;
  float scale;
  bool learn;
  // Where labels, mask and loss have the block's row. Asked for again rather than kept in a register.
  __device__ int64_t token() const { return tokens ? tokens[blockIdx.x] : blockIdx.x; }
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
  const float mask = a.mask[a.token()];
  if (mask == 0.f) {
    if (threadIdx.x == 0) a.loss[a.token()] = 0;
    if (a.learn)
      for (int64_t i = threadIdx.x; i < a.vocab; i += kThreads) put(a.gradient[row] + i, 0.f);
    return;
  }
  const int32_t wanted = a.labels[a.token()];
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
  if (threadIdx.x == 0) a.loss[a.token()] = (maximum + logf(sum) - at_label) * mask;
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

template <class D>
void launch(const CrossEntropyArgs& args, const TensorView& gradient) {
  const Loss<D> a{rows_of<float>(args.logits),
                  rows_of<D>(gradient),
                  args.labels.ptr<const int32_t>(),
                  args.tokens.defined() ? args.tokens.ptr<const int32_t>() : nullptr,
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

template <int N, class T>
__global__ void copy_rows(Rows<const T> x, const int32_t* tokens, Rows<T> y, int64_t cols) {
  using Some = Pack<N, T>;
  const T* from = x[blockIdx.x];
  T* to = y[tokens[blockIdx.x]];
  for (int64_t i = int64_t{threadIdx.x} * N; i < cols; i += int64_t{blockDim.x} * N)
    *reinterpret_cast<Some*>(to + i) = *reinterpret_cast<const Some*>(from + i);
}

void put_rows(KernelContext&, const PutRowsArgs& args) {
  const int64_t rows = args.x.rows(), cols = args.x.cols();
  if (rows == 0 || cols == 0) return;
  for_float_type(args.x.dtype, "put_rows", [&]<class T>(T) {
    const bool packs = wide(args.x) && wide(args.y);
    const auto kernel = packs ? copy_rows<kWide<T>, T> : copy_rows<1, T>;
    kernel<<<static_cast<unsigned>(rows), row_threads(cols, packs ? kWide<T> : 1)>>>(
        rows_of<const T>(args.x), args.tokens.ptr<const int32_t>(), rows_of<T>(args.y), cols);
  });
  check_launch("put_rows");
}

const CudaKernel<CrossEntropyArgs> kKernel{kCrossEntropy, &run};
const CudaKernel<PutRowsArgs> kPutRowsKernel{kPutRows, &put_rows};

}  // namespace
}  // namespace flagscale::op
