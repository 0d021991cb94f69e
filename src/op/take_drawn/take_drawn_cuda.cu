#include "kernel/cuda/cuda.cuh"
#include "op/take_drawn/take_drawn.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 256;

__global__ void take_ids(const int32_t* ids, const int32_t* rows, const int32_t* drawn, int32_t* y,
                         int64_t tokens) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= tokens) return;
  const int32_t row = rows[i];
  y[i] = row < 0 ? ids[i] : drawn[row];
}

void run(KernelContext&, const TakeDrawnArgs& args) {
  const int64_t tokens = args.y.size();
  if (tokens == 0) return;
  take_ids<<<static_cast<unsigned>(divide_up(tokens, kThreads)), kThreads>>>(
      args.ids.ptr<const int32_t>(), args.rows.ptr<const int32_t>(), args.drawn.ptr<const int32_t>(),
      args.y.ptr<int32_t>(), tokens);
  check_launch("take_drawn");
}

const CudaKernel<TakeDrawnArgs> kKernel{kTakeDrawn, &run};

}  // namespace
}  // namespace flagscale::op
