// Few rows: fp8_few_cuda.cu. More: x is rounded into memory first, and the product is that of op/matmul, with
// the same bits.
#include "kernel/cuda/warpgroup.cuh"
#include "op/fp8_linear/fp8_few_cuda.h"
#include "op/fp8_linear/fp8_round_cuda.cuh"
#include "op/matmul/steady_cuda.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

static_assert(kFp8Numbers == kFp8Slice && kFp8RowsRead == kFp8Read);

constexpr int kAtOnceRows = 2, kRoundThreads = 256;

// A warp: a slice of a row. q: rows of `pitch` numbers, zeros beyond k. Bound by memory.
template <bool kGated>
__global__ void __launch_bounds__(kRoundThreads)
    round_slices(Rows<const bf16> x, Rows<const bf16> up, bool wide, uint8_t* q, float* scales, int64_t m,
                 int64_t k, int64_t pitch, int64_t slices) {
  let_next_start();
  wait_for_previous();
  const int64_t at = (int64_t{blockIdx.x} * kRoundThreads + threadIdx.x) / 32, row = at / slices,
                first = at % slices * kFp8Slice,
                after = first + kFp8Slice < pitch ? first + kFp8Slice : pitch;
  if (row < m)
    fp8::round_slice(x[row], kGated ? up[row] : nullptr, wide, first, after, k, scales + at,
                     [&](int64_t i) { return q + row * pitch + i; });
}

int64_t slices_of(const Fp8LinearArgs& args) { return divide_up(pitch_of(args), kFp8Slice); }

// In the workspace: x's scales, then its numbers, on boundaries of what a bulk copy takes.
struct Room {
  size_t scales, bytes;
  Room(int64_t m, const Fp8LinearArgs& args)
      : scales(static_cast<size_t>(divide_up(m * slices_of(args) * static_cast<int64_t>(sizeof(float)), 256) *
                                   256)),
        bytes(scales + static_cast<size_t>(divide_up(m, kFp8Read) * kFp8Read * pitch_of(args))) {}
};

void multiply_rounded(const Fp8LinearArgs& args, const uint8_t* q, const float* scales) {
  if (are_few(args)) return multiply_few(args, q, scales);
  multiply_fp8_by_warpgroups({q, args.data.data, pitch_of(args), scales, args.scales, args.bias, args.y});
}

void multiply_many(KernelContext& context, const Fp8LinearArgs& args) {
  const int64_t m = args.x.rows(), slices = slices_of(args);
  std::byte* room = context.workspace.data();
  auto* scales = reinterpret_cast<float*>(room);
  auto* q = reinterpret_cast<uint8_t*>(room + Room(m, args).scales);
  const bool gated = args.up.defined();
  launch_early(gated ? round_slices<true> : round_slices<false>,
               dim3(static_cast<unsigned>(divide_up(m * slices * 32, kRoundThreads))), kRoundThreads, 0,
               rows_of<const bf16>(args.x), gated ? rows_of<const bf16>(args.up) : Rows<const bf16>{},
               wide(args.x) && wide(args.up), q, scales, m, args.x.cols(), pitch_of(args), slices);
  multiply_rounded(args, q, scales);
}

void run(KernelContext& context, const Fp8LinearArgs& args) {
  if (args.x.rows() == 0) return;
  if (!on_hopper()) not_run_here("fp8_linear", "it is for GPUs of compute capability 9.0");
  const bool at_once = args.x.rows() <= kAtOnceRows && !args.up.defined() && wide(args.x) && are_few(args);
  if (args.x_scales.defined())
    multiply_rounded(args, args.x.ptr<const uint8_t>(), args.x_scales.ptr<const float>());
  else
    at_once ? multiply_few(args, nullptr, nullptr) : multiply_many(context, args);
  check_launch("fp8_linear");
}

// For all rows that there may be.
size_t workspace(const Fp8LinearArgs& args, int) {
  return args.x_scales.defined() ? 0 : Room(args.x.dims[0], args).bytes;
}

const CudaKernel<Fp8LinearArgs> kKernel{kFp8Linear, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
