#pragma once
// What every optimizer's kernel on a GPU begins with, and its walk over weights that go their own way. A
// product that is added to something is rounded first where the CPU's kernels with vectors do so: such
// weights have their bits.

#include <initializer_list>

#include "kernel/cuda/cuda.cuh"
#include "op/adamw/adamw.h"

namespace flagscale::op {

constexpr int kUpdateThreads = 256;

// Sets what the gradient is multiplied by, to clip it. False: nothing is to be updated.
__device__ inline bool gradient_scale(const StepScalars& step, const float* norm, float& scale) {
  const float n = *norm;
  scale = step.clip > 0 && step.clip < n + 1e-6f ? step.clip / (n + 1e-6f) : 1.f;
  return step.skip == 0 && n - n == 0.f;  // inf - inf and nan are not 0
}

// What decoupled weight decay leaves of a weight.
__device__ inline float kept_share(const StepScalars& step, float rate, bool decay) {
  return decay ? 1.f - __fmul_rn(rate, step.weight_decay) : 1.f;
}

// Calls move.at<N>(i, more...) for neighbours from i on: kN at a time, the last ones, fewer, one by one.
template <int kN, class Move, class... More>
__device__ void move_all(const Move& move, int64_t size, bool wide, const More&... more) {
  const int64_t thread = int64_t{blockIdx.x} * kUpdateThreads + threadIdx.x,
                threads = int64_t{gridDim.x} * kUpdateThreads, packs = wide ? size / kN : 0;
  for (int64_t pack = thread; pack < packs; pack += threads) move.template at<kN>(pack * kN, more...);
  for (int64_t i = packs * kN + thread; i < size; i += threads) move.template at<1>(i, more...);
}

template <int kN, class Move>
__global__ void update_each(Move move, const float* norm, const StepScalars* scalars, int64_t size,
                            bool wide) {
  cuda::let_next_start();
  cuda::wait_for_previous();
  const StepScalars step = *scalars;
  float clip = 1;
  if (gradient_scale(step, norm, clip)) move_all<kN>(move, size, wide, step, clip);
}

// Whether n numbers of each may be read at a time.
inline bool by_packs(size_t n, std::initializer_list<const TensorView*> views) {
  for (const TensorView* view : views)
    if (view->defined() && reinterpret_cast<uintptr_t>(view->data) % (n * size_of(view->dtype)) != 0)
      return false;
  return true;
}

inline dim3 update_blocks(int64_t size, int n) {
  const int64_t blocks = cuda::divide_up(size, int64_t{kUpdateThreads} * n);
  return dim3(static_cast<unsigned>(blocks < 65536 ? blocks : 65536));
}

// move.at<N>(i, StepScalars, clip) for all, unless nothing is to be updated.
template <class Move>
void launch_update(const char* op, const Move& move, const TensorView& norm, const TensorView& step,
                   int64_t size, std::initializer_list<const TensorView*> views) {
  constexpr int kN = 4;
  if (size == 0) return;
  const bool wide = by_packs(kN, views);
  cuda::launch_early(update_each<kN, Move>, update_blocks(size, wide ? kN : 1), kUpdateThreads, 0, move,
                     norm.ptr<const float>(), step.ptr<const StepScalars>(), size, wide);
  cuda::check_launch(op);
}

// The sum over a block of kUpdateThreads, on every thread; the same order every time.
__device__ inline double block_sum_of_doubles(double x) {
  __shared__ double partial[kUpdateThreads];
  __syncthreads();  // a sum before this one has been read
  partial[threadIdx.x] = x;
  for (int step = kUpdateThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
  }
  __syncthreads();
  return partial[0];
}

}  // namespace flagscale::op
