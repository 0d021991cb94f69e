// x stays in shared memory, and each of two warpgroups of a block walks along 16 rows of W after another, the
// next ones under way. W is the left factor: its 16 rows in four slices of k are 64 rows, and the same four
// slices of each row of x are the columns of the right one; of what this gives, a slice's rows by its own
// columns are taken. Bound by reading weights, of which the first are fetched while kernels before it run.
#include <algorithm>

#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/fp8_linear/fp8_few_cuda.h"
#include "op/fp8_linear/fp8_round_cuda.cuh"
#include "op/matmul/steady_cluster_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

static_assert(kFp8Numbers == kFp8Slice);

constexpr int kMostRows = 16, kMostSlices = 32;
constexpr int kGroup = 128, kGroups = 2, kMultiply = kGroup * kGroups;  // threads of a warpgroup; of both
constexpr int kThreads = kMultiply + kGroups * 32;                      // with a warp each that fetches
constexpr int kPanel = 16, kQuad = 4, kOfSlice = kFp8Slice / kFp8Step;  // rows of W; slices at once; steps
constexpr int kPartPitch = kPanel + 4;
constexpr int kBox = kPanel * kFp8Step;                    // bytes of a step of a slice
constexpr int kSteps = 2, kStage = kSteps * kQuad * kBox;  // of what is fetched at once
constexpr int kLeastStages = 4, kMostStages = 10;          // of a block, half of them a warpgroup's
constexpr size_t kFixed = 3 << 10;                         // shared memory of the kernel's own
constexpr size_t kMostShared = (size_t{227} << 10) - kFixed;
static_assert(kSteps == 2 && kOfSlice % kSteps == 0 && kPanel == kPanelRows);

// Slices by fours; one that is shorter than the others is the last four by itself.
struct Quads {
  int steps;
  __host__ __device__ int full() const { return steps / kOfSlice; }  // slices
  __host__ __device__ int whole() const { return (full() + kQuad - 1) / kQuad; }
  __host__ __device__ int count() const { return whole() + (steps % kOfSlice != 0); }
  __device__ int first_slice(int quad) const { return quad < whole() ? quad * kQuad : full(); }
  __device__ int slices(int quad) const {
    return quad == whole() ? 1 : full() - quad * kQuad < kQuad ? full() - quad * kQuad : kQuad;
  }
  __device__ int steps_of(int quad) const { return quad < whole() ? kOfSlice : steps % kOfSlice; }
};

template <class C>
struct Few {
  Result<C> to;
  Rows<const bf16> x;
  const uint8_t* rounded;  // [m, pitch]; null: x is rounded here
  int64_t k, pitch;
  int panels, stages;
  int x_bytes, part_floats;  // of shared memory; of a panel
};

// Where numbers k to k + 7 of a row of x lie in shared memory: a panel of warpgroup.cuh for a step of four
// slices, whose rows are kX rows of x of one slice after another.
template <int kX>
__device__ uint8_t* x_place(uint8_t* x, Quads quads, int row, int64_t k) {
  const int slice = static_cast<int>(k / kFp8Slice), in_slice = static_cast<int>(k % kFp8Slice),
            quad = slice < quads.full() ? slice / kQuad : quads.whole(),
            panel = quad * kOfSlice + in_slice / kFp8Step,
            line = (slice - quads.first_slice(quad)) * kX + row;
  return x + (panel * kQuad * kX + line) * kFp8Step + (in_slice % kFp8Step / 16 ^ line % 8) * 16 +
         in_slice % 16;
}

// All rows of x, rounded, and their scales, to shared memory, by the warpgroups.
template <int kX, class C>
__device__ void bring_rows(const Few<C>& p, uint8_t* x, float* scales) {
  const int thread = static_cast<int>(threadIdx.x), rows = static_cast<int>(p.to.m),
            slices = p.to.scales.slices;
  const Quads quads{p.to.steps};
  if (p.rounded) {
    const int pieces = static_cast<int>(p.pitch) / 16;
    for (int i = thread; i < rows * pieces; i += kMultiply)
      copy_16_bytes(x_place<kX>(x, quads, i / pieces, i % pieces * 16), p.rounded + int64_t{i} * 16, true);
    commit_copies();
    for (int i = thread; i < rows * slices; i += kMultiply) scales[i] = p.to.scales.x[i];
    wait_for_copies<0>();
    return;
  }
  for (int i = thread / 32; i < rows * slices; i += kMultiply / 32) {
    const int row = i / slices;
    const int64_t first = int64_t{i % slices} * kFp8Slice,
                  after = first + kFp8Slice < p.pitch ? first + kFp8Slice : p.pitch;
    fp8::round_slice(p.x[row], nullptr, true, first, after, p.k, scales + i,
                     [&](int64_t k) { return x_place<kX>(x, quads, row, k); });
  }
}

// A warpgroup's stages, in the order in which they are filled and read.
struct Ring {
  uint8_t* stages;
  Barrier *full, *free;
  int count, at = 0, phase = 0;
  __device__ uint8_t* stage() const { return stages + at * kStage; }
  __device__ void next() {
    if (++at == count) at = 0, phase ^= 1;
  }
};

// A lane: a step of a slice of a stage.
__device__ inline void fetch_stage(const CUtensorMap& w, Quads quads, int panel, int quad, int step,
                                   const Ring& ring, int lane) {
  const int own = step + lane / kQuad, slice = lane % kQuad;
  const bool there = lane < kSteps * kQuad && own < quads.steps_of(quad) && slice < quads.slices(quad);
  const int boxes = __popc(__ballot_sync(0xffffffffu, there));
  if (lane == 0) arrive_for_bytes(&ring.full[ring.at], boxes * kBox);
  __syncwarp();
  if (there)
    copy_tile_of_steps(ring.stage() + lane * kBox, w, panel * kPanel,
                       (quads.first_slice(quad) + slice) * kOfSlice + own, &ring.full[ring.at]);
}

// By a warp of its own; nobody writes weights, so they wait for nothing but room, which is there at first.
__device__ inline void fetch_all(const CUtensorMap& w, Quads quads, int panels, Ring ring, int group,
                                 int lane) {
  for (int panel = static_cast<int>(blockIdx.x + group * gridDim.x); panel < panels;
       panel += static_cast<int>(kGroups * gridDim.x))
    for (int quad = 0; quad < quads.count(); ++quad)
      for (int step = 0; step < quads.steps_of(quad); step += kSteps, ring.next()) {
        wait(&ring.free[ring.at], ring.phase ^ 1);
        fetch_stage(w, quads, panel, quad, step, ring, lane);
      }
}

// A batch: kCount steps of 64 rows of the left factor by kX rows of x of four slices.
template <int kCount, int kColumns>
__device__ __forceinline__ void multiply_steps(float (&sum)[kColumns / 8][4], const uint8_t* w,
                                               const uint8_t* x, bool keep) {
  begin_products();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const uint64_t left = across(reinterpret_cast<const bf16*>(w + i * kQuad * kBox), 0),
                   right = across(reinterpret_cast<const bf16*>(x + i * kColumns * kFp8Step), 0);
#pragma unroll
    for (int j = 0; j < kFp8Step / 32; ++j)
      multiply_fp8(sum, left + 2 * j, right + 2 * j, keep || i > 0 || j > 0);
  }
  commit_products();
}

// What ends a thread's sums of a panel: asked for before its products.
struct Ending {
  float scale = 0, bias = 0;
  template <class C>
  __device__ Ending(const Result<C>& to, int panel) {
    const int64_t column = int64_t{panel} * kPanel + threadIdx.x % kPanel;
    if (column < to.n) {
      scale = as_float(to.scales.w[column]);
      if (to.bias) bias = as_float(to.bias[column]);
    }
  }
};

// Sums of the slices of a panel, [slices, m, kPartPitch]; by a warpgroup.
template <class C>
__device__ void fold(const Result<C>& to, const float* parts, const float* scales, int panel,
                     const Ending& ending) {
  const int rows = static_cast<int>(to.m), slices = to.scales.slices,
            own = static_cast<int>(threadIdx.x) % kPanel;
  const int64_t column = int64_t{panel} * kPanel + own;
  if (column >= to.n) return;
  for (int row = static_cast<int>(threadIdx.x) % kGroup / kPanel; row < rows; row += kGroup / kPanel) {
    float total = 0;
#pragma unroll 4
    for (int s = 0; s < slices; ++s)
      total = __fmaf_rn(parts[(s * rows + row) * kPartPitch + own], scales[row * slices + s], total);
    total = __fmul_rn(total, ending.scale);
    put(to.y[row] + column, to.bias ? __fadd_rn(total, ending.bias) : total);
  }
}

// A warpgroup's panels. parts: room for two, taken in turn.
template <int kX, class C>
__device__ void multiply_panels(const Few<C>& p, Ring ring, const uint8_t* x, float* parts,
                                const float* scales, int group) {
  constexpr int kColumns = kQuad * kX;  // of the right factor
  const Quads quads{p.to.steps};
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32 % 4, 0),
            lane = static_cast<int>(threadIdx.x) % 32, rows = static_cast<int>(p.to.m);
  float sum[kColumns / 8][4] = {};
  int turn = 0;
  for (int panel = static_cast<int>(blockIdx.x + group * gridDim.x); panel < p.panels;
       panel += static_cast<int>(kGroups * gridDim.x), turn ^= 1) {
    const Ending ending(p.to, panel);
    float* part = parts + turn * p.part_floats;
    for (int quad = 0; quad < quads.count(); ++quad) {
      const int end = quads.steps_of(quad);
      int before = 0;
      for (int step = 0; step < end; step += kSteps, ring.next()) {
        wait(&ring.full[ring.at], ring.phase);
        const uint8_t *left = ring.stage(), *right = x + (quad * kOfSlice + step) * kColumns * kFp8Step;
        if (step + 1 < end)
          multiply_steps<2, kColumns>(sum, left, right, step > 0);
        else
          multiply_steps<1, kColumns>(sum, left, right, step > 0);
        wait_for_products<1>();
        if (step > 0 && lane == 0) arrive(&ring.free[before]);
        before = ring.at;
      }
      wait_for_products<0>();
      settle(sum);
      if (lane == 0) arrive(&ring.free[before]);
      const int slice = quads.first_slice(quad) + warp;
      if (warp >= quads.slices(quad)) continue;
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (const int column = j * 8 + lane % 4 * 2 + i % 2; column / kX == warp && column % kX < rows)
            part[(slice * rows + column % kX) * kPartPitch + lane / 4 + i / 2 * 8] = sum[j][i];
    }
    meet_warpgroup(group);
    fold(p.to, part, scales, panel, ending);
  }
}

template <int kX, class C>                      // at most kX rows of x
__global__ void __launch_bounds__(kThreads, 2)  // registers that leave room for kernels before it
    few_rows(const __grid_constant__ CUtensorMap w, const __grid_constant__ Few<C> p) {
#ifdef FLAGSCALE_HOPPER
  __shared__ Barrier arrived[kMostStages], read[kMostStages];
  __shared__ float scales[kMostRows * kMostSlices];
  extern __shared__ uint8_t memory[];
  auto* stages = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  uint8_t* x = stages + p.stages * kStage;
  auto* parts = reinterpret_cast<float*>(x + p.x_bytes);
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0),
            lane = static_cast<int>(threadIdx.x) % 32;
  const bool fetches = warp >= kMultiply / 32;
  const int group = fetches ? warp - kMultiply / 32 : warp / (kGroup / 32);
  const int first = group * ((p.stages + 1) / kGroups);  // the first warpgroup may have one stage more
  const Ring ring{stages + first * kStage, arrived + first, read + first,
                  group == 0 ? (p.stages + 1) / kGroups : p.stages / kGroups};
  let_next_start();
  if (fetches) {
    if (lane == 0) {
      for (int i = 0; i < ring.count; ++i)
        init_barrier(&ring.full[i], 1), init_barrier(&ring.free[i], kGroup / 32);
      show_barriers();
    }
    __syncwarp();
    asm volatile("bar.arrive 3, %0;" ::"n"(kThreads) : "memory");  // who multiplies finds them
    return fetch_all(w, Quads{p.to.steps}, p.panels, ring, group, lane);
  }
  wait_for_previous();
  bring_rows<kX>(p, x, scales);
  show_to_products();
  asm volatile("bar.sync 3, %0;" ::"n"(kThreads) : "memory");
  multiply_panels<kX>(p, ring, x, parts + group * 2 * p.part_floats, scales, group);
#else
  __trap();
#endif
}

// Rows that a kernel has place for.
int places_of(const Fp8LinearArgs& args) {
  const int64_t rows = args.y.rows();
  return rows <= 2 ? 2 : rows <= 4 ? 4 : rows <= 8 ? 8 : kMostRows;
}

// What they take of shared memory.
struct Shared {
  int64_t x, parts;  // bytes; floats of a panel
  explicit Shared(const Fp8LinearArgs& args)
      : x(Quads{static_cast<int>(divide_up(pitch_of(args), kFp8Step))}.count() * kQuad * kFp8Slice *
          places_of(args)),
        parts(divide_up(pitch_of(args), kFp8Slice) * args.y.rows() * kPartPitch) {}
  size_t bytes(int stages) const {
    return 1024 + static_cast<size_t>(stages * kStage + x + kGroups * 2 * parts * int64_t{sizeof(float)});
  }
  int stages() const {
    int stages = kMostStages;
    while (stages > 0 && bytes(stages) > kMostShared) --stages;
    return stages;
  }
};

template <int kX, class C>
void launch_few(const Fp8LinearArgs& args, Few<C> p) {
  const Shared shared(args);
  p.stages = shared.stages();
  p.x_bytes = static_cast<int>(shared.x), p.part_floats = static_cast<int>(shared.parts);
  static const bool once = (allow_shared("fp8_linear", few_rows<kX, C>, kMostShared), true);
  (void)once;
  const int blocks = std::min(p.panels, processors());
  launch_early(few_rows<kX, C>, dim3(static_cast<unsigned>(blocks)), kThreads, shared.bytes(p.stages),
               steps_of_tiles(args.data.data, p.to.n, p.pitch, kPanel, 1), p);
}

}  // namespace

bool are_few(const Fp8LinearArgs& args) {
  return args.y.rows() <= kMostRows && pitch_of(args) <= kMostSlices * kFp8Slice &&
         Shared(args).stages() >= kLeastStages;
}

void multiply_few(const Fp8LinearArgs& args, const uint8_t* rounded, const float* scales) {
  for_float_type(args.y.dtype, "fp8_linear", [&]<class C>(C) {
    const int64_t n = args.scales.dims[0], pitch = pitch_of(args);
    Few<C> p{};
    p.to = {rows_of<C>(args.y),
            args.bias.defined() ? args.bias.ptr<const bf16>() : nullptr,
            args.y.rows(),
            n,
            static_cast<int>(divide_up(pitch, kFp8Step)),
            kOfSlice,
            false,
            {scales, args.scales.ptr<const bf16>(), static_cast<int>(divide_up(pitch, kFp8Slice))}};
    if (!rounded) p.x = rows_of<const bf16>(args.x);
    p.rounded = rounded;
    p.k = args.x.cols(), p.pitch = pitch;
    p.panels = static_cast<int>(divide_up(n, kPanel));
    switch (places_of(args)) {
      case 2:
        return launch_few<2>(args, p);
      case 4:
        return launch_few<4>(args, p);
      case 8:
        return launch_few<8>(args, p);
      default:
        return launch_few<kMostRows>(args, p);
    }
  });
}

}  // namespace flagscale::op
