// RMSNorm whose result a warp rounds where it has it. Bound by memory.
#include "kernel/cuda/warpgroup.cuh"
#include "op/fp8_linear/fp8_round_cuda.cuh"
#include "op/fp8_linear/fp8_rows.h"
#include "op/rms_norm/norm_rows_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace fp8;

static_assert(kFp8Numbers == kNormSlice);

__global__ void __launch_bounds__(32 * kMostNormSlices)
    round_norms(NormRows a, uint8_t* numbers, float* scales, int pitch, int slices) {
  const NormPlace at(a);
  NormPack y[kNormPacks];
  normalise(a, at, y);
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i) largest = fmaxf(largest, Eight(y[i]).largest());
  largest = largest_of_warp(largest);
  if (at.row >= a.rows) return;
  if (at.lane == 0) scales[at.row * slices + at.slice] = scale_of(largest);
  const float inverse = inverse_of(largest);
#pragma unroll
  for (int i = 0; i < kNormPacks; ++i)
    if (at.column(i) < pitch)
      *reinterpret_cast<uint2*>(numbers + at.row * pitch + at.column(i)) = Eight(y[i]).rounded(inverse);
}

void run(KernelContext&, const Fp8RmsNormArgs& args) {
  if (args.x.rows() == 0) return;
  if (!on_hopper()) not_run_here("fp8_rms_norm", "it is for GPUs of compute capability 9.0");
  if (!wide(args.x) || !wide(args.delta) || !wide(args.weight) || !wide(args.sum))
    not_run_here("fp8_rms_norm", "its rows begin at multiples of 16 bytes");
  const NormRows a{rows_of<const bf16>(args.x),
                   args.delta.defined() ? rows_of<const bf16>(args.delta) : Rows<const bf16>{},
                   args.weight.ptr<const bf16>(),
                   args.sum.defined() ? rows_of<bf16>(args.sum) : Rows<bf16>{},
                   args.eps,
                   static_cast<int>(args.x.cols()),
                   args.x.rows()};
  launch_norm(round_norms, a, args.numbers.ptr<uint8_t>(), args.scales.ptr<float>(),
              static_cast<int>(args.numbers.cols()), static_cast<int>(args.scales.cols()));
  check_launch("fp8_rms_norm");
}

const CudaKernel<Fp8RmsNormArgs> kKernel{kFp8RmsNorm, &run};

}  // namespace
}  // namespace flagscale::op
