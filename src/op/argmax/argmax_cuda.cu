// Bound by memory; one block a row.
#include "kernel/cuda/cuda.cuh"
#include "op/argmax/argmax.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 1024;

// A number and its column, as one that orders like them: larger numbers first, then lower columns; 0: none.
using Ranked = unsigned long long;
constexpr Ranked kBroken = ~Ranked{0};
__device__ Ranked ranked(float x, int64_t column) {
  if (x != x || x == INFINITY) return kBroken;
  if (x == -INFINITY) return 0;
  const uint32_t bits = __float_as_uint(x + 0.f);  // -0 is 0
  const uint32_t order = bits >> 31 ? ~bits : bits | 1u << 31;
  return Ranked{order} << 32 | (0xffffffffu - static_cast<uint32_t>(column));
}

__global__ void __launch_bounds__(kThreads) find_best(Rows<const float> x, int32_t* best, int64_t n) {
  __shared__ Ranked of_warp[kThreads / 32];
  const float* row = x[blockIdx.x];
  Ranked most = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const Ranked r = ranked(row[i], i);
    most = r > most ? r : most;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const Ranked other = __shfl_xor_sync(0xffffffffu, most, step);
    most = other > most ? other : most;
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
  __syncthreads();
  if (threadIdx.x > 0) return;
  Ranked total = 0;
  for (const Ranked r : of_warp) total = r > total ? r : total;
  best[blockIdx.x] = total == kBroken ? kNotANumber
                     : total == 0     ? kAllMinusInfinity
                                      : static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(total));
}

void run(KernelContext&, const ArgmaxArgs& args) {
  if (args.x.rows() == 0) return;
  find_best<<<static_cast<unsigned>(args.x.rows()), kThreads>>>(rows_of<const float>(args.x),
                                                                args.best.ptr<int32_t>(), args.x.cols());
  check_launch("argmax");
}

const CudaKernel<ArgmaxArgs> kKernel{kArgmax, &run};

}  // namespace
}  // namespace flagscale::op
