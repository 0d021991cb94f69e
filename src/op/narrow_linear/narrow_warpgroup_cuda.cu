// y^T = W x^T by warpgroups: weights come to registers as they lie, are widened there and are the left
// factor; x is the right one, in tiles that the copy engine brings. A cluster has a tile, a block of it one
// slice of k, as split_slices of op/matmul. Bound by reading weights up to some 64 rows, then by the tensor
// cores.
#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/matmul/steady_cluster_cuda.cuh"
#include "op/narrow_linear/narrow_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kGroup = 128, kGroups = 2, kOfWeight = 64 * kGroups;  // threads; rows of W of a block
constexpr int kConsumers = kGroup * kGroups, kThreads = kConsumers + 32;
constexpr int kPitch = kOfWeight + 4;  // of a slice's sums, so that a warp's fall on different banks

// kN rows of x and the tiles of them that are under way, kAhead steps of weights in registers.
template <Narrow kFormat, int kN>
struct Tiles {
  using L = Layout<kFormat>;
  static constexpr int kRows = kN, kStages = 4, kNumbers = kN * kStep, kBytes = kNumbers * 2;
  static constexpr int kAhead = L::kHalves > 1 ? 4 : kN <= 64 ? 2 : 3, kBlocks = kN <= 64 ? 2 : 1;
  static constexpr size_t kInStages = size_t{kStages} * kBytes, kOfPart = sizeof(float) * kN * kPitch;
  static constexpr size_t kShared = (kInStages > kOfPart ? kInStages : kOfPart) + 1024;  // with room to align
};

// Once, and by one multiprocessor.
__device__ uint4 read_once(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

template <class C>
struct Narrowed {
  Result<C> to;
  Panels w;
};

// What a lane has of a step of its panel.
template <Narrow kFormat>
struct Step {
  using L = Layout<kFormat>;
  static constexpr int kTiles = kStep / L::kColumns;
  uint4 q[kTiles];
  uint32_t scales[kTiles][L::kGrouped ? L::kWords : 1];

  // data: the lane's part of its panel's first tile.
  __device__ void fetch(const Panels& w, const uint4* data, int panel, int step, bool there, int lane) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int tile = step * kTiles + i;
      const bool own = there && tile < w.tiles;
      q[i] = own ? read_once(data + tile * 32) : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int word = 0; word < L::kWords; ++word)
        scales[i][word] = own ? __ldg(group_scales<kFormat>(w, panel, tile) + word * 8 + lane / 4) : 0u;
    }
  }
  __device__ void widen(Factors factors, Fragment (&left)[kStep / 16]) const {
#pragma unroll
    for (int half = 0; half < kStep / 32; ++half) {
      const int tile = half / L::kHalves, of_tile = half % L::kHalves;
      if constexpr (L::kGrouped)
        factors = factors_of_group<kFormat>(scales[tile][of_tile * L::kWords / L::kHalves]);
      widen_half<kFormat>(q[tile], of_tile, factors, left[2 * half], left[2 * half + 1]);
    }
  }
};

template <Narrow kFormat, class T, class C>
__global__ void __launch_bounds__(kThreads, T::kBlocks)
    split_narrow(const __grid_constant__ CUtensorMap x, Narrowed<C> p) {
#ifdef FLAGSCALE_HOPPER
  __shared__ Barrier full[T::kStages], empty[T::kStages];
  extern __shared__ uint8_t memory[];
  auto* tiles = reinterpret_cast<bf16*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  if (thread == 0) {
    for (int i = 0; i < T::kStages; ++i) init_barrier(&full[i], 1), init_barrier(&empty[i], kGroups);
    show_barriers();
  }
  __syncthreads();
  let_next_start();
  const Result<C>& to = p.to;
  const int slice = static_cast<int>(blockIdx.x) % kSlices,
            column = static_cast<int>(blockIdx.x) / kSlices * kOfWeight,
            row = static_cast<int>(blockIdx.y) * T::kRows;
  const int begin = slice * to.of_slice,
            end = begin + to.of_slice < to.steps ? begin + to.of_slice : to.steps;
  float sum[T::kRows / 8][4] = {};
  const int warp = __shfl_sync(0xffffffffu, thread / 32, 0);
  if (thread == kConsumers) {
    wait_for_previous();
    for (int step = begin, at = 0, phase = 1; step < end; ++step) {
      wait(&empty[at], phase);
      arrive_for_bytes(&full[at], T::kBytes);
      copy_tile(tiles + at * T::kNumbers, x, row, step * kStep, &full[at]);
      if (++at == T::kStages) at = 0, phase ^= 1;
    }
  } else if (thread < kConsumers) {
    // A warp has a panel; past the last one it repeats it, and nobody looks.
    const int panels = static_cast<int>((to.n + kPanelRows - 1) / kPanelRows),
              own = column / static_cast<int>(kPanelRows) + warp, panel = own < panels ? own : panels - 1;
    const uint4* const data = p.w.data + panel * p.w.tiles * 32 + lane;
    const auto fetch = [&](int step, Step<kFormat>& to) {
      to.fetch(p.w, data, panel, step, step < end, lane);
    };
    Step<kFormat> ring[T::kAhead];
#pragma unroll
    for (int i = 0; i < T::kAhead; ++i) fetch(begin + i, ring[i]);  // nobody writes weights
    Factors factors{};
    if constexpr (!Layout<kFormat>::kGrouped) factors = row_factors<kFormat>(p.w, panel, lane);
    int at = 0, phase = 0;
    for (int turn = begin; turn < end; turn += T::kAhead) {
#pragma unroll
      for (int i = 0; i < T::kAhead; ++i) {
        if (turn + i >= end) break;
        Fragment left[kStep / 16];
        ring[i].widen(factors, left);
        fetch(turn + i + T::kAhead, ring[i]);
        wait(&full[at], phase);
        const uint64_t right = across(tiles + at * T::kNumbers, 0);
        begin_products();
#pragma unroll
        for (int j = 0; j < kStep / 16; ++j)
          multiply<false>(sum, left[j], right + 2 * j, turn + i > begin || j > 0);
        commit_products();
        wait_for_products<0>();
        settle(sum);
        if (thread % kGroup == 0) arrive(&empty[at]);
        if (++at == T::kStages) at = 0, phase ^= 1;
      }
    }
  }
  __syncthreads();                               // tiles are read
  auto* part = reinterpret_cast<float*>(tiles);  // [T::kRows][kPitch]
  if (thread < kConsumers) {
#pragma unroll
    for (int j = 0; j < T::kRows / 8; ++j)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        part[(j * 8 + lane % 4 * 2 + r % 2) * kPitch + warp * 16 + r / 2 * 8 + lane / 4] = sum[j][r];
  }
  add_parts<T::kRows, kOfWeight, kPitch, kConsumers>(part, to, row, column, slice);
#else
  __trap();
#endif
}

template <Narrow kFormat, int kN, class C>
void launch(const NarrowLinearArgs& args, const Narrowed<C>& p) {
  using T = Tiles<kFormat, kN>;
  const auto kernel = split_narrow<kFormat, T, C>;
  allow_shared("narrow_linear", kernel, T::kShared);
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {kSlices, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(divide_up(p.to.n, kOfWeight) * kSlices),
                        static_cast<unsigned>(divide_up(p.to.m, kN)));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = T::kShared;
  config.stream = cudaStreamPerThread;
  config.attrs = attributes;
  config.numAttrs = 2;
  cudaLaunchKernelEx(&config, kernel, tiles_of(args.x.data, p.to.m, args.x.cols(), args.x.row_stride(), kN),
                     p);
}

}  // namespace

bool multiply_narrow_by_warpgroups(const NarrowLinearArgs& args) {
  if (!on_hopper()) return false;
  const int64_t m = args.x.rows(), n = args.y.cols(), steps = divide_up(args.x.cols(), kStep);
  for_float_type(args.y.dtype, "narrow_linear", [&]<class C>(C) {
    const Narrowed<C> p{
        {rows_of<C>(args.y), args.bias.defined() ? args.bias.ptr<const bf16>() : nullptr, m, n,
         static_cast<int>(steps), static_cast<int>(divide_up(steps, kSlices)), n % 8 == 0 && wide(args.y)},
        Panels(args.data, args.scales, n)};
    for_format(args.format, [&]<Narrow kFormat>() {
      if (m <= 32) return launch<kFormat, 32>(args, p);
      m <= 64 ? launch<kFormat, 64>(args, p) : launch<kFormat, 128>(args, p);
    });
  });
  return true;
}

}  // namespace flagscale::op
