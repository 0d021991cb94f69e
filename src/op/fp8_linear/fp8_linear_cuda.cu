// Few rows of x: they stay in shared memory; a block walks along 32 rows of W after another, each warpgroup
// of it has some of the slices of k, and tiles of the next rows are under way while the slices meet in shared
// memory. x is the left factor, 64 rows of which all but the first are whatever lies behind them, and looked
// at by nobody. Bound by reading weights. More rows: x is rounded into memory first, and the product is that
// of op/matmul, with the same bits.
#include <algorithm>

#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/fp8_linear/fp8_linear.h"
#include "op/fp8_linear/fp8_round.cuh"
#include "op/matmul/steady_cluster.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

static_assert(kFp8Numbers == kFp8Slice && kFp8RowsRead == kFp8Read);

constexpr int kFewRows = 16, kAtOnceRows = 2, kRoundThreads = 128;
template <bool kGated>
constexpr int kRoundBlocks = kGated ? 3 : 5;                           // of a multiprocessor
constexpr int kGroup = 128, kGroups = 4, kThreads = kGroup * kGroups;  // threads of a warpgroup; of a block
constexpr int kPanel = 32;                                             // rows of W of a block
constexpr int kSteps = 2, kStage = kSteps * kPanel * kFp8Step;         // of a bulk copy; its bytes
constexpr int kMostStages = 4, kLeastStages = 2;                       // of a warpgroup
constexpr int kRead = 64 * kFp8Step;                                   // bytes of x that a product reads
constexpr int kOfSlice = kFp8Slice / kFp8Step, kPartPitch = kPanel + 4;
static_assert(kOfSlice % kSteps == 0);
constexpr int kMostShared = 224 << 10, kMostSlices = 32;

template <class C>
struct Few {
  Result<C> to;
  Rows<const bf16> x;
  const uint8_t* rounded;  // [m, pitch]; null: x is rounded here
  int64_t k, pitch;
  int stages, panels;
};

// Where numbers k to k + 7 of a row of x lie in shared memory: a panel of warpgroup.cuh a step, of kX rows.
template <int kX>
__device__ uint8_t* x_place(uint8_t* x, int row, int64_t k) {
  const int in_step = static_cast<int>(k % kFp8Step);
  return x + (k / kFp8Step * kX + row) * kFp8Step + (in_step / 16 ^ row % 8) * 16 + in_step % 16;
}

// All rows of x, rounded, and their scales, to shared memory.
template <int kX, class C>
__device__ void bring_rows(const Few<C>& p, uint8_t* x, float* scales) {
  const int thread = static_cast<int>(threadIdx.x), rows = static_cast<int>(p.to.m),
            slices = p.to.scales.slices;
  if (p.rounded) {
    const int pieces = static_cast<int>(p.pitch) / 16;
    for (int i = thread; i < rows * pieces; i += kThreads)
      copy_16_bytes(x_place<kX>(x, i / pieces, i % pieces * 16), p.rounded + int64_t{i} * 16, true);
    commit_copies();
    for (int i = thread; i < rows * slices; i += kThreads) scales[i] = p.to.scales.x[i];
    wait_for_copies<0>();
    return;
  }
  for (int i = thread / 32; i < rows * slices; i += kThreads / 32) {
    const int64_t first = int64_t{i % slices} * kFp8Slice,
                  after = first + kFp8Slice < p.pitch ? first + kFp8Slice : p.pitch;
    fp8::round_slice(p.x[i / slices], nullptr, true, first, after, p.k, scales + i,
                     [&](int64_t k) { return x_place<kX>(x, i / slices, k); });
  }
}

// Sums of the slices of a panel, [slices, m, kPartPitch].
template <class C>
__device__ void fold(const Few<C>& p, const float* parts, const float* scales, int panel) {
  const Result<C>& to = p.to;
  const int rows = static_cast<int>(to.m), slices = to.scales.slices;
  for (int i = static_cast<int>(threadIdx.x); i < rows * kPanel; i += kThreads) {
    const int row = i / kPanel, own = i % kPanel;
    const int64_t column = int64_t{panel} * kPanel + own;
    if (column >= to.n) continue;
    float total = 0;
    for (int s = 0; s < slices; ++s)
      total = __fmaf_rn(parts[(s * rows + row) * kPartPitch + own], scales[row * slices + s], total);
    total = __fmul_rn(total, as_float(to.scales.w[column]));
    put(to.y[row] + column, to.bias ? __fadd_rn(total, as_float(to.bias[column])) : total);
  }
}

template <int kX, class C>  // at most kX rows of x
__global__ void __launch_bounds__(kThreads, 1) few_rows(const __grid_constant__ CUtensorMap w, Few<C> p) {
#ifdef FLAGSCALE_HOPPER
  __shared__ Barrier arrived[kGroups][kMostStages], read[kGroups][kMostStages];
  __shared__ float scales[kFewRows * kMostSlices];
  extern __shared__ uint8_t memory[];
  auto* rings = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  const Result<C>& to = p.to;
  uint8_t* x = rings + kGroups * p.stages * kStage;
  const int rows = static_cast<int>(to.m), slices = to.scales.slices;
  auto* parts =
      reinterpret_cast<float*>(x + (to.steps - 1) * kX * kFp8Step + kRead);  // of two panels in turn
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kGroup, 0),
            thread = static_cast<int>(threadIdx.x) % kGroup, lane = thread % 32;
  uint8_t* ring = rings + group * p.stages * kStage;
  Barrier *full = arrived[group], *free = read[group];
  const auto end_of = [&](int slice) {
    return (slice + 1) * kOfSlice < to.steps ? (slice + 1) * kOfSlice : to.steps;
  };
  // Where the next stage comes from and goes to; a warpgroup's first thread alone fetches.
  int next_panel = group < slices ? static_cast<int>(blockIdx.x) : p.panels, next_slice = group,
      next_step = group * kOfSlice, next_at = 0;
  const auto fetch = [&] {
    if (next_panel >= p.panels) return;
    arrive_for_bytes(&full[next_at], kStage);
    copy_tile_of_steps(ring + next_at * kStage, w, next_panel * kPanel, next_step, &full[next_at]);
    if (++next_at == p.stages) next_at = 0;
    if ((next_step += kSteps) < end_of(next_slice)) return;
    if ((next_slice += kGroups) >= slices) next_slice = group, next_panel += static_cast<int>(gridDim.x);
    next_step = next_slice * kOfSlice;
  };
  if (thread == 0) {
    for (int i = 0; i < p.stages; ++i) init_barrier(&full[i], 1), init_barrier(&free[i], kGroup / 32);
    show_barriers();
    for (int i = 0; i < p.stages; ++i) fetch();  // nobody writes weights
  }
  let_next_start();
  wait_for_previous();
  bring_rows<kX>(p, x, scales);
  show_to_products();
  __syncthreads();
  const int row = lane / 4;  // of a product, and eight further on
  const bool own = thread < 32 && row < rows, own_too = thread < 32 && row + 8 < rows;
  int at = 0, phase = 0, turn = 0;
  for (int panel = static_cast<int>(blockIdx.x); panel < p.panels;
       panel += static_cast<int>(gridDim.x), turn ^= 1) {
    float* part = parts + turn * slices * rows * kPartPitch;
    for (int slice = group; slice < slices; slice += kGroups) {
      float sum[kPanel / 8][4] = {};
      const int begin = slice * kOfSlice, end = end_of(slice);
      for (int step = begin; step < end; step += kSteps) {
        wait(&full[at], phase);
        begin_products();
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
          if (step + i >= end) break;
          const uint64_t left = across(reinterpret_cast<const bf16*>(x + (step + i) * kX * kFp8Step), 0),
                         right = across(
                             reinterpret_cast<const bf16*>(ring + at * kStage + i * (kPanel * kFp8Step)), 0);
#pragma unroll
          for (int j = 0; j < kFp8Step / 32; ++j)
            multiply_fp8(sum, left + 2 * j, right + 2 * j, step + i > begin || j > 0);
        }
        commit_products();
        wait_for_products<0>();
        settle(sum);
        if (lane == 0) arrive(&free[at]);
        if (thread == 0) wait(&free[at], phase), fetch();  // all four warps have read the stage
        __syncwarp();
        if (++at == p.stages) at = 0, phase ^= 1;
      }
#pragma unroll
      for (int i = 0; i < kPanel / 8; ++i)
#pragma unroll
        for (int r = 0; r < kX / 4; ++r)
          if (r < 2 ? own : own_too)
            part[(slice * rows + row + r / 2 * 8) * kPartPitch + i * 8 + lane % 4 * 2 + r % 2] = sum[i][r];
    }
    __syncthreads();
    fold(p, part, scales, panel);
  }
#else
  __trap();
#endif
}

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
int64_t steps_of(const Fp8LinearArgs& args) { return divide_up(pitch_of(args), kFp8Step); }
int64_t slices_of(const Fp8LinearArgs& args) { return divide_up(pitch_of(args), kFp8Slice); }

// What few rows take of shared memory.
size_t shared_of(const Fp8LinearArgs& args, int stages) {
  const int64_t rows = args.x.rows() <= 8 ? 8 : 16, x = (steps_of(args) - 1) * rows * kFp8Step + kRead,
                parts = 2 * slices_of(args) * args.x.rows() * kPartPitch * int64_t{sizeof(float)};
  return 1024 + static_cast<size_t>(kGroups * stages * kStage + x + parts);
}
bool is_few(const Fp8LinearArgs& args) {
  return args.x.rows() <= kFewRows && slices_of(args) <= kMostSlices &&
         shared_of(args, kLeastStages) <= kMostShared;
}

template <int kX, class C>
void launch_few(const Fp8LinearArgs& args, Few<C> p) {
  p.stages = kMostStages;
  while (shared_of(args, p.stages) > kMostShared) --p.stages;
  static const bool once = (allow_shared("fp8_linear", few_rows<kX, C>, kMostShared), true);
  (void)once;
  const int blocks = p.panels < processors() ? p.panels : processors();
  launch_early(few_rows<kX, C>, dim3(static_cast<unsigned>(blocks)), kThreads, shared_of(args, p.stages),
               steps_of_tiles(args.data.data, p.to.n, p.pitch, kPanel, kSteps), p);
}

// rounded, scales: of x; null: it is rounded as it comes.
void multiply_few(const Fp8LinearArgs& args, const uint8_t* rounded, const float* scales) {
  for_float_type(args.y.dtype, "fp8_linear", [&]<class C>(C) {
    const int64_t m = args.x.rows(), n = args.scales.dims[0];
    const Few<C> p{{rows_of<C>(args.y),
                    args.bias.defined() ? args.bias.ptr<const bf16>() : nullptr,
                    m,
                    n,
                    static_cast<int>(steps_of(args)),
                    kFp8Slice / kFp8Step,
                    false,
                    {scales, args.scales.ptr<const bf16>(), static_cast<int>(slices_of(args))}},
                   rows_of<const bf16>(args.x),
                   rounded,
                   args.x.cols(),
                   pitch_of(args),
                   0,
                   static_cast<int>(divide_up(n, kPanel))};
    m <= 8 ? launch_few<8>(args, p) : launch_few<16>(args, p);
  });
}

// In the workspace: x's scales, then its numbers, on boundaries of what a bulk copy takes.
struct Room {
  size_t scales, bytes;
  Room(int64_t m, const Fp8LinearArgs& args)
      : scales(static_cast<size_t>(divide_up(m * slices_of(args) * static_cast<int64_t>(sizeof(float)), 256) *
                                   256)),
        bytes(scales + static_cast<size_t>(divide_up(m, kFp8Read) * kFp8Read * pitch_of(args))) {}
};

void multiply_rounded(const Fp8LinearArgs& args, const uint8_t* q, const float* scales) {
  if (is_few(args)) return multiply_few(args, q, scales);
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
  const bool at_once = args.x.rows() <= kAtOnceRows && !args.up.defined() && wide(args.x) && is_few(args);
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
