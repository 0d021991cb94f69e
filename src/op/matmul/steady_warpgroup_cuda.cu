// y = x W^T by warpgroups from tiles that the copy engine brings: 64 rows of x a warpgroup, 128 or 192 rows
// of W. Up to 128 rows: a cluster has a tile, a block of it one slice of k, so that the weight comes from
// memory once and from many blocks at a time; the slices meet in the blocks' shared memory. More rows: a
// block walks along k and adds slice after slice, while a thread of its own fetches what comes next; two
// blocks share a tile of W. Either way a slice is one chain of products over 16 neighbours of k from zero,
// and slices are added in order. Bound by memory up to some 64 rows, then by what tensor cores read from
// shared memory.
#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/matmul/steady_cluster.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kBand = 8;     // pairs of tiles of rows of x that meet each tile of W in turn: both stay in L2

// kGroups warpgroups, kN rows of W, and the tiles that are under way. kPair blocks of a cluster have the same
// rows of W and fetch a part each for all.
template <int kGroups, int kN, int kDepth, int kBlocks = 1>
struct Tiles {
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
  for (int k = 0; k < kStep / 16; ++k) multiply<false>(sum, x + 2 * k, w + 2 * k, keep || k > 0);
  commit_products();
}

// Four lanes share a row: each gives three of its four pairs of columns for those of one block of eight.
__device__ void gather_eights(uint32_t (&r)[4], int lane) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const bool odd = lane & step;
      const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? r[i] : r[i + step], step);
      (odd ? r[i] : r[i + step]) = other;
    }
}

template <int kBlocks, class C>
__device__ void put_tile(const Result<C>& to, const float (&sum)[kBlocks][4], int64_t row, int64_t column,
                         int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = row + lane / 4 + half * 8;
#pragma unroll
    for (int j = 0; j < kBlocks; j += 4) {
      float v[4][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t c = column + (j + i) * 8 + lane % 4 * 2;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          v[i][k] = sum[j + i][2 * half + k];
          if (to.bias && c + k < to.n) v[i][k] += as_float(to.bias[c + k]);
        }
      }
      if (std::is_same_v<C, bf16> && to.by_eight) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) r[i] = pair_of(v[i][0], v[i][1]);
        gather_eights(r, lane);
        const int64_t c = column + (j + lane % 4) * 8;
        if (at < to.m && c < to.n)
          *reinterpret_cast<uint4*>(to.y[at] + c) = make_uint4(r[0], r[1], r[2], r[3]);
        continue;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t c = column + (j + i) * 8 + lane % 4 * 2;
        if (at >= to.m) continue;
        if (c < to.n) put(to.y[at] + c, v[i][0]);
        if (c + 1 < to.n) put(to.y[at] + c + 1, v[i][1]);
      }
    }
  }
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
    asm volatile("setmaxnreg.dec.sync.aligned.u32 32;");
    if (threadIdx.x % kGroup == 0) {
      wait_for_previous();
      for (int tile = pair; tile < all; tile += pairs) {
        const Place place(tile, down, over);
        for (int step = 0; step < to.steps; ++step, slot.next(T::kStages)) {
          bf16* stage = tiles + slot.index * T::kNumbers;
          Barrier* full = &stages.full[slot.index];
          wait(&stages.empty[slot.index], slot.phase ^ 1);
          arrive_for_bytes(full, T::kBytes);
          copy_tile_to_all<T::kPair>(stage + rank * kPart * kStep, w,
                                     place.column * T::kColumns + rank * kPart, step * kStep, full);
          copy_tile(stage + T::kColumns * kStep, x, (place.row * T::kPair + rank) * T::kRows, step * kStep,
                    full);
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
  for (int tile = pair; tile < all; tile += pairs) {
    float total[T::kColumns / 8][4] = {}, sum[T::kColumns / 8][4] = {};
    for (int first = 0; first < to.steps; first += to.of_slice) {
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
        for (int i = 0; i < 4; ++i) total[j][i] += sum[j][i];
    }
    const Place place(tile, down, over);
    put_tile(to, total, int64_t{place.row * T::kPair + rank} * T::kRows + group * 64 + warp * 16,
             int64_t{place.column} * T::kColumns, lane);
  }
  if (T::kPair > 1) meet_in_cluster();
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
#endif
}

template <class T, class C>
void launch(void (*kernel)(CUtensorMap, CUtensorMap, Result<C>), dim3 blocks, int threads, int cluster,
            const MatmulArgs& args, const Result<C>& to) {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(T::kShared));
  const int64_t k = args.a.dims[1];
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
  cudaLaunchKernelEx(&config, kernel,
                     tiles_of(args.b.data, to.n, k, args.b.row_stride(), T::kColumns / T::kPair),
                     tiles_of(args.a.data, to.m, k, args.a.row_stride(), T::kRows), to);
}

template <int kGroups, class C>
void launch_split(const MatmulArgs& args, const Result<C>& to) {
  using T = Tiles<kGroups, 128, 3>;
  launch<T, C>(split_slices<T, C>,
               dim3(static_cast<unsigned>(divide_up(to.n, T::kColumns) * kSlices),
                    static_cast<unsigned>(divide_up(to.m, T::kRows))),
               kGroups * kGroup + 32, kSlices, args, to);
}

template <int kColumns, class C>
void launch_walk(const MatmulArgs& args, const Result<C>& to) {
  using T = Tiles<2, kColumns, kColumns == 128 ? 6 : 5, 2>;
  const int64_t pairs = divide_up(to.n, kColumns) * divide_up(to.m, T::kRows * T::kPair),
                most = processors() / T::kPair;
  launch<T, C>(walk_slices<T, C>, dim3(static_cast<unsigned>((pairs < most ? pairs : most) * T::kPair)),
               3 * kGroup, T::kPair, args, to);
}

// Turns of all pairs of multiprocessors that tiles of so many columns take, in numbers of columns.
int64_t turns(int64_t m, int64_t n, int64_t columns) {
  return divide_up(divide_up(n, columns) * divide_up(m, 256), processors() / 2) * columns;
}

}  // namespace

bool multiply_by_warpgroups(const MatmulArgs& args) {
  if (!on_hopper()) return false;
  const int64_t m = args.a.rows(), n = args.b.dims[0], k = args.a.dims[1], steps = divide_up(k, kStep);
  for_float_type(args.out.dtype, "matmul", [&]<class C>(C) {
    const Result<C> to{rows_of<C>(args.out),
                       args.bias.defined() ? args.bias.ptr<const bf16>() : nullptr,
                       m,
                       n,
                       static_cast<int>(steps),
                       static_cast<int>(divide_up(steps, kSlices)),
                       n % 8 == 0 && wide(args.out)};
    if (m <= 64) return launch_split<1>(args, to);
    if (m <= 128) return launch_split<2>(args, to);
    // A turn of the wider tiles takes a thirteenth less time a column.
    turns(m, n, 192) * 12 < turns(m, n, 128) * 13 ? launch_walk<192>(args, to) : launch_walk<128>(args, to);
  });
  return true;
}

}  // namespace flagscale::op
