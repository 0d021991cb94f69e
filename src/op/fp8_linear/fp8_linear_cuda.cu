// Few rows: fp8_few_cuda.cu. More: x is rounded into memory first, and the product is that of op/matmul, with
// the same bits.
#include <algorithm>

#include "kernel/cuda/warpgroup.cuh"
#include "op/fp8_linear/fp8_few_cuda.h"
#include "op/fp8_linear/fp8_round.cuh"
#include "op/matmul/steady_cuda.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

static_assert(kFp8Numbers == kFp8Slice && kFp8RowsRead == kFp8Read);

constexpr int kAtOnceRows = 2, kRoundThreads = 128;
template <bool kGated>
constexpr int kRoundBlocks = kGated ? 3 : 5;  // of a multiprocessor

// A warp has one slice of a row after another, the next one on the way. q: rows of `pitch` numbers, zeros
// beyond k. Bound by memory.
template <bool kGated>
__global__ void __launch_bounds__(kRoundThreads, kRoundBlocks<kGated>)
    round_slices(Rows<const bf16> x, Rows<const bf16> up, bool wide, uint8_t* q, float* scales, int count,
                 int64_t k, int64_t pitch, int slices) {
  let_next_start();
  wait_for_previous();
  const int warps = static_cast<int>(gridDim.x * kRoundThreads / 32);
  int at = static_cast<int>(blockIdx.x * kRoundThreads + threadIdx.x) / 32;
  const auto first_of = [&](int i) { return int64_t{i % slices} * kFp8Slice; };
  const auto after_of = [&](int i) {
    const int64_t after = first_of(i) + kFp8Slice;
    return after < pitch ? after : pitch;
  };
  const auto read = [&](fp8::Slice& slice, int i) {
    if (i < count)
      slice.read(x[i / slices], kGated ? up[i / slices] : nullptr, wide, first_of(i), after_of(i), k);
  };
  fp8::Slice slice;
  read(slice, at);
  for (; at < count; at += warps) {
    fp8::Slice next;
    read(next, at + warps);
    slice.round(kGated, first_of(at), after_of(at), scales + at,
                [&](int64_t i) { return q + at / slices * pitch + i; });
    slice = next;
  }
}

int64_t pitch_of(const Fp8LinearArgs& args) { return args.data.cols() / kPanelRows; }
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
  const int64_t blocks =
      std::min<int64_t>(divide_up(m * slices * 32, kRoundThreads),
                        int64_t{gated ? kRoundBlocks<true> : kRoundBlocks<false>} * processors());
  launch_early(gated ? round_slices<true> : round_slices<false>, dim3(static_cast<unsigned>(blocks)),
               kRoundThreads, 0, rows_of<const bf16>(args.x),
               gated ? rows_of<const bf16>(args.up) : Rows<const bf16>{}, wide(args.x) && wide(args.up), q,
               scales, static_cast<int>(m * slices), args.x.cols(), pitch_of(args), static_cast<int>(slices));
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
