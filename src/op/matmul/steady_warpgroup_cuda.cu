// y = x W^T by warpgroups from tiles that the copy engine brings: 64 rows of x a warpgroup, 64 to 192 rows
// of W. Up to 128 rows of bf16: a cluster has a tile, a block of it one slice of k, so that the weight comes
// from memory once and from many blocks at a time; the slices meet in the blocks' shared memory. More rows: a
// block walks along k and adds slice after slice, while a thread of its own fetches what comes next; where W
// is wide, two blocks share a tile of it. Either way a slice is one chain of products over 16 neighbours of k
// from zero, and slices are added in order. Bound by memory up to some 64 rows, then by what tensor cores
// read from shared memory. Numbers of e4m3 lie in pairs where those of bf16 do (multiply_fp8_by_warpgroups).
#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/matmul/steady_cluster_cuda.cuh"
#include "op/matmul/steady_tile_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kBand = 8;  // pairs of tiles of rows of x that meet each tile of W in turn: both stay in L2

// kGroups warpgroups, kN rows of W, and the tiles that are under way. kPair blocks of a cluster have the same
// rows of W and fetch a part each for all.
template <bool kOfFp8, int kGroups, int kN, int kDepth, int kBlocks = 1>
struct Tiles {
  static constexpr bool kFp8 = kOfFp8;
  static constexpr int kRows = 64 * kGroups, kColumns = kN, kStages = kDepth, kPair = kBlocks;
  static constexpr int kNumbers = (kColumns + kRows) * kStep,
                       kBytes = kNumbers * static_cast<int>(sizeof(bf16));
  static constexpr int kPartPitch = kColumns + 8;  // of a slice's sums
  static constexpr size_t kInStages = size_t{kStages} * kBytes, kOfPart = sizeof(float) * kRows * kPartPitch;
  static constexpr size_t kShared = (kInStages > kOfPart ? kInStages : kOfPart) + 1024;  // with room to align
  static_assert(kStep == kPanelColumns);
};

struct Slot {
  int index = 0, phase = 0;
  __device__ void next(int stages) {
    if (++index == stages) index = 0, phase ^= 1;
  }
};

__device__ inline bf16* aligned_tiles() {
  extern __shared__ uint8_t memory[];
  return reinterpret_cast<bf16*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
}

// What a block's threads tell one another about its stages.
template <int kStages>
struct Stages {
  Barrier full[kStages], empty[kStages];
  __device__ void init(int readers) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) init_barrier(&full[i], 1), init_barrier(&empty[i], readers);
      show_barriers();
    }
    __syncthreads();
  }
};

// The calling thread's, known to the compiler to be one for a warp.
__device__ inline int warpgroup() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kGroup, 0);
}

// sum (+)= one step of a warpgroup's 64 rows.
template <class T>
__device__ __forceinline__ void multiply_step(float (&sum)[T::kColumns / 8][4], const bf16* stage, int group,
                                              bool keep) {
  const uint64_t x = across(stage + (T::kColumns + group * 64) * kStep, 0), w = across(stage, 0);
  begin_products();
#pragma unroll
  for (int k = 0; k < kStep / 16; ++k) {
    if constexpr (T::kFp8)
      multiply_fp8(sum, x + 2 * k, w + 2 * k, keep || k > 0);
    else
      multiply<false>(sum, x + 2 * k, w + 2 * k, keep || k > 0);
  }
  commit_products();
}

// Which tile is the index'th.
struct Place {
  int row, column;
  __device__ Place(int index, int down, int over) {
    const int band = index / (kBand * over), at = index - band * kBand * over,
              rows = band * kBand + kBand < down ? kBand : down - band * kBand;
    row = band * kBand + at % rows;
    column = at / rows;
  }
};

template <class T, class C>
__global__ void __launch_bounds__((T::kRows / 64 + 1) * kGroup, 1)
    walk_slices(const __grid_constant__ CUtensorMap w, const __grid_constant__ CUtensorMap x, Result<C> to) {
#ifdef FLAGSCALE_HOPPER
  constexpr int kGroups = T::kRows / 64, kPart = T::kColumns / T::kPair;  // rows of W that a block fetches
  __shared__ Stages<T::kStages> stages;
  __shared__ Ends<T::kColumns> ends[kGroups][2];  // of tiles in turn
  bf16* tiles = aligned_tiles();
  stages.init(kGroups * T::kPair);
  if (T::kPair > 1) meet_in_cluster();
  let_next_start();
  const int group = warpgroup(), lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = static_cast<int>(blockIdx.x) % T::kPair, pair = static_cast<int>(blockIdx.x) / T::kPair,
            pairs = static_cast<int>(gridDim.x) / T::kPair;
  const int down = static_cast<int>((to.m + T::kRows * T::kPair - 1) / (T::kRows * T::kPair)),
            over = static_cast<int>((to.n + T::kColumns - 1) / T::kColumns), all = down * over;
  Slot slot;
  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x % kGroup == 0) {
      const auto begin_stage = [&](const Place& place, int step, int index) {
        arrive_for_bytes(&stages.full[index], T::kBytes);
        copy_tile_to_all<T::kPair>(tiles + index * T::kNumbers + rank * kPart * kStep, w,
                                   place.column * T::kColumns + rank * kPart, step * kStep,
                                   &stages.full[index]);
      };
      // Nobody writes weights, but op/narrow_linear those of bf16 that it widened just before.
      int early = !T::kFp8 ? 0 : to.steps < T::kStages ? to.steps : T::kStages;
      for (int i = 0; i < early; ++i) begin_stage(Place(pair, down, over), i, i);
      wait_for_previous();
      for (int tile = pair; tile < all; tile += pairs) {
        const Place place(tile, down, over);
        for (int step = 0; step < to.steps; ++step, --early, slot.next(T::kStages)) {
          if (early <= 0) {
            wait(&stages.empty[slot.index], slot.phase ^ 1);
            begin_stage(place, step, slot.index);
          }
          copy_tile(tiles + slot.index * T::kNumbers + T::kColumns * kStep, x,
                    (place.row * T::kPair + rank) * T::kRows, step * kStep, &stages.full[slot.index]);
        }
      }
    }
    __syncwarp();
    if (T::kPair > 1) meet_in_cluster();  // nobody writes into or waits for this block any more
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(232));
  const int warp = static_cast<int>(threadIdx.x) % kGroup / 32;
  const auto release = [&](int index) {
    if (threadIdx.x % kGroup < T::kPair) arrive_at_block(&stages.empty[index], threadIdx.x % kGroup);
  };
  if (T::kFp8) wait_for_previous();  // for x's scales
  for (int tile = pair, turn = 0; tile < all; tile += pairs, turn ^= 1) {
    const Place place(tile, down, over);
    const int64_t row = int64_t{place.row * T::kPair + rank} * T::kRows + group * 64 + warp * 16,
                  column = int64_t{place.column} * T::kColumns;
    const OwnEnds<T::kFp8, T::kColumns> own(to, column);
    float total[T::kColumns / 8][4] = {}, sum[T::kColumns / 8][4] = {};
    for (int first = 0; first < to.steps; first += to.of_slice) {
      float scales[2] = {};
      if constexpr (T::kFp8) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          if (const int64_t at = row + half * 8 + lane / 4; at < to.m)
            scales[half] = to.scales.x[at * to.scales.slices + first / to.of_slice];
      }
      const int end = first + to.of_slice < to.steps ? first + to.of_slice : to.steps;
      int before = 0;
      for (int step = first; step < end; ++step, slot.next(T::kStages)) {
        wait(&stages.full[slot.index], slot.phase);
        multiply_step<T>(sum, tiles + slot.index * T::kNumbers, group, step > first);
        wait_for_products<1>();
        if (step > first) release(before);
        before = slot.index;
      }
      wait_for_products<0>();
      settle(sum);
      release(before);
#pragma unroll
      for (int j = 0; j < T::kColumns / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          total[j][i] = T::kFp8 ? __fmaf_rn(sum[j][i], scales[i / 2], total[j][i]) : total[j][i] + sum[j][i];
    }
    own.give(ends[group][turn]);
    meet_warpgroup(group);
    put_tile<T::kFp8>(to, total, ends[group][turn], row, column, lane);
  }
  if (T::kPair > 1) meet_in_cluster();
#else
  __trap();
#endif
}

// A cluster of kSlices blocks: a tile (x / kSlices, y); a block: one slice (x % kSlices).
template <class T, class C>
__global__ void __launch_bounds__(T::kRows / 64 * kGroup + 32)
    split_slices(const __grid_constant__ CUtensorMap w, const __grid_constant__ CUtensorMap x, Result<C> to) {
#ifdef FLAGSCALE_HOPPER
  constexpr int kGroups = T::kRows / 64, kThreads = kGroups * kGroup;
  __shared__ Stages<T::kStages> stages;
  bf16* tiles = aligned_tiles();
  stages.init(kGroups);
  let_next_start();
  const int thread = static_cast<int>(threadIdx.x), group = warpgroup(), lane = thread % 32;
  const int slice = static_cast<int>(blockIdx.x) % kSlices,
            column = static_cast<int>(blockIdx.x) / kSlices * T::kColumns,
            row = static_cast<int>(blockIdx.y) * T::kRows;
  const int begin = slice * to.of_slice,
            end = begin + to.of_slice < to.steps ? begin + to.of_slice : to.steps;
  float sum[T::kColumns / 8][4] = {};
  Slot slot;
  if (thread == kThreads) {
    const auto begin_stage = [&](int step, int index) {
      arrive_for_bytes(&stages.full[index], T::kBytes);
      copy_tile(tiles + index * T::kNumbers, w, column, step * kStep, &stages.full[index]);
    };
    const int early = end - begin < T::kStages ? end - begin : T::kStages;
    for (int i = 0; i < early; ++i) begin_stage(begin + i, i);  // nobody writes weights
    wait_for_previous();
    for (int step = begin; step < end; ++step, slot.next(T::kStages)) {
      if (step - begin >= early) {
        wait(&stages.empty[slot.index], slot.phase ^ 1);
        begin_stage(step, slot.index);
      }
      copy_tile(tiles + slot.index * T::kNumbers + T::kColumns * kStep, x, row, step * kStep,
                &stages.full[slot.index]);
    }
  } else if (thread < kThreads) {
    for (int step = begin; step < end; ++step, slot.next(T::kStages)) {
      wait(&stages.full[slot.index], slot.phase);
      multiply_step<T>(sum, tiles + slot.index * T::kNumbers, group, step > begin);
      wait_for_products<0>();
      settle(sum);
      if (thread % kGroup == 0) arrive(&stages.empty[slot.index]);
    }
  }
  __syncthreads();                               // tiles are read
  auto* part = reinterpret_cast<float*>(tiles);  // [kRows][T::kPartPitch]
  const int warp_row = group * 64 + thread % kGroup / 32 * 16;
  if (thread < kThreads && row + warp_row < to.m) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < T::kColumns / 8; ++j)
        *reinterpret_cast<float2*>(part + (warp_row + lane / 4 + half * 8) * T::kPartPitch + j * 8 +
                                   lane % 4 * 2) = make_float2(sum[j][2 * half], sum[j][2 * half + 1]);
  }
  add_parts<T::kRows, T::kColumns, T::kPartPitch, kThreads>(part, to, row, column, slice);
#else
  __trap();
#endif
}

// Rows of k numbers of bf16, or of as many pairs. all_rows: x may be read to the end of its last tile.
struct Factors {
  const void *w, *x;
  int64_t k, w_pitch, x_pitch;
  bool all_rows = false;
};

template <class T, class C>
void launch(void (*kernel)(CUtensorMap, CUtensorMap, Result<C>), dim3 blocks, int threads, int cluster,
            const Factors& factors, const Result<C>& to) {
  allow_shared("matmul", kernel, T::kShared);
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = T::kShared;
  config.stream = cudaStreamPerThread;
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 2 : 1;
  static_assert(kFp8Read % (T::kRows * T::kPair) == 0);
  const int64_t x_rows = factors.all_rows ? divide_up(to.m, T::kRows * T::kPair) * T::kRows * T::kPair : to.m;
  cudaLaunchKernelEx(&config, kernel,
                     tiles_of(factors.w, to.n, factors.k, factors.w_pitch, T::kColumns / T::kPair),
                     tiles_of(factors.x, x_rows, factors.k, factors.x_pitch, T::kRows), to);
}

template <int kGroups, class C>
void launch_split(const Factors& factors, const Result<C>& to) {
  using T = Tiles<false, kGroups, 128, 3>;
  launch<T, C>(split_slices<T, C>,
               dim3(static_cast<unsigned>(divide_up(to.n, T::kColumns) * kSlices),
                    static_cast<unsigned>(divide_up(to.m, T::kRows))),
               kGroups * kGroup + 32, kSlices, factors, to);
}

template <class T, class C>
void launch_walk(const Factors& factors, const Result<C>& to) {
  const int64_t tiles = divide_up(to.n, T::kColumns) * divide_up(to.m, T::kRows * T::kPair),
                most = processors() / T::kPair;
  launch<T, C>(walk_slices<T, C>, dim3(static_cast<unsigned>((tiles < most ? tiles : most) * T::kPair)),
               T::kRows / 64 * kGroup + kGroup, T::kPair, factors, to);
}

// Tiles, and how long a step of them takes beside the others, measured.
template <class T, int kTime>
struct Choice {
  using Tile = T;
  // How often all multiprocessors, or pairs of them, have a tile.
  static int64_t time(int64_t m, int64_t n) {
    return kTime *
           divide_up(divide_up(n, T::kColumns) * divide_up(m, T::kRows * T::kPair), processors() / T::kPair);
  }
};
template <class... Choices, class C>
void launch_fastest(const Factors& factors, const Result<C>& to) {
  int64_t least = INT64_MAX;
  void (*fastest)(const Factors&, const Result<C>&) = nullptr;
  const auto consider = [&]<class O>(O) {
    if (const int64_t time = O::time(to.m, to.n); time < least)
      least = time, fastest = launch_walk<typename O::Tile, C>;
  };
  (consider(Choices{}), ...);
  fastest(factors, to);
}

template <class C>
Result<C> result_of(const TensorView& y, const TensorView& bias, int64_t n, int64_t steps, int64_t of_slice) {
  return {rows_of<C>(y),
          bias.defined() ? bias.ptr<const bf16>() : nullptr,
          y.rows(),
          n,
          static_cast<int>(steps),
          static_cast<int>(of_slice),
          n % 8 == 0 && wide(y)};
}

}  // namespace

bool multiply_by_warpgroups(const MatmulArgs& args) {
  if (!on_hopper()) return false;
  const int64_t m = args.a.rows(), n = args.b.dims[0], steps = divide_up(args.a.dims[1], kStep);
  const Factors factors{args.b.data, args.a.data, args.a.dims[1], args.b.row_stride(), args.a.row_stride()};
  for_float_type(args.out.dtype, "matmul", [&]<class C>(C) {
    const auto to = result_of<C>(args.out, args.bias, n, steps, divide_up(steps, kSlices));
    if (m <= 64) return launch_split<1>(factors, to);
    if (m <= 128) return launch_split<2>(factors, to);
    launch_fastest<Choice<Tiles<false, 2, 128, 6, 2>, 1040>, Choice<Tiles<false, 2, 192, 5, 2>, 1440>>(
        factors, to);
  });
  return true;
}

void multiply_fp8_by_warpgroups(const Fp8Product& p) {
  const int64_t n = p.w_scales.dims[0], steps = divide_up(p.pitch / 2, kStep);
  const Factors factors{p.w, p.x, p.pitch / 2, p.pitch / 2, p.pitch / 2, true};
  for_float_type(p.y.dtype, "matmul", [&]<class C>(C) {
    auto to = result_of<C>(p.y, p.bias, n, steps, kFp8Slice / kFp8Step);
    to.scales = {p.x_scales, p.w_scales.ptr<const bf16>(),
                 static_cast<int>(divide_up(steps, kFp8Slice / kFp8Step))};
    // Wide tiles read less, narrow ones fit more multiprocessors.
    launch_fastest<Choice<Tiles<true, 1, 64, 12>, 220>, Choice<Tiles<true, 1, 112, 9>, 320>,
                   Choice<Tiles<true, 2, 64, 9>, 315>, Choice<Tiles<true, 2, 96, 7>, 415>,
                   Choice<Tiles<true, 2, 112, 7>, 475>, Choice<Tiles<true, 2, 128, 6>, 500>,
                   Choice<Tiles<true, 2, 160, 6>, 590>, Choice<Tiles<true, 2, 192, 5, 2>, 660>>(factors, to);
  });
}

}  // namespace flagscale::op
