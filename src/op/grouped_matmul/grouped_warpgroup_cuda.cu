// All experts' products of bf16 in one launch, by warpgroups from tiles that the copy engine brings. A
// cluster of two blocks takes one piece of work after another as the table of the experts' rows says: 256
// rows of an expert by 256 columns, where a block has 128 of the rows and half of what both multiply them
// with is fetched by each; or, for an expert's last 128 rows or fewer, those rows by 512 columns. Rows beyond
// an expert's end are multiplied and not stored, but where rows are summed over: there they are zeros. Each
// sum is one chain along k.
#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/grouped_matmul/grouped_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kGroup = 128, kGroups = 2;  // threads of a warpgroup; those that multiply
constexpr int kRows = 64 * kGroups, kColumns = 256, kStep = kPanelColumns, kStages = 4, kPair = 2;
constexpr int kLeft = kRows * kStep, kRight = kColumns * kStep, kNumbers = kLeft + kRight;  // of a stage
constexpr int kBytes = kNumbers * static_cast<int>(sizeof(bf16)), kSquare = 64 * kStep;
constexpr size_t kShared = size_t{kStages} * kBytes + 1024;  // with room to align

// c = a b^T, a b or a^T b.
enum class Kind { kAcross, kDown, kSums };

struct Pipe {
  Barrier full[kStages], empty[kStages];
};

struct Slot {
  int index = 0, phase = 0;
  __device__ void next() {
    if (++index == kStages) index = 0, phase ^= 1;
  }
};

__device__ inline void meet_in_pair() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ int pieces(int n, int size) { return (n + size - 1) / size; }

// A piece of work as a block of the pair has it.
struct Work {
  int expert, row, end, column;  // rows [row, end) of the result, at most kRows of them, and columns
  int first, steps;              // where sums begin in a and b, and how many of kStep
  bool apart;                    // the blocks have the same rows and other columns
};

// The experts of sums by their rows, the most first: the blocks then take equal pieces at a time.
struct Order {
  int16_t experts[kMostGroups];
  __device__ void fill(const int32_t* counts, int all) {
    for (int i = static_cast<int>(threadIdx.x); i < all; i += static_cast<int>(blockDim.x)) {
      int before = 0;
      for (int j = 0; j < all; ++j) before += counts[j] > counts[i] || (counts[j] == counts[i] && j < i);
      experts[before] = static_cast<int16_t>(i);
    }
  }
};

template <Kind kKind>
struct Schedule {
  const GroupTable& table;
  const Order& order;
  const GroupSizes& sizes;
  int rank, expert = 0;

  static __device__ int units_of(int count, const GroupSizes& sizes) {
    const int over = pieces(sizes.n, kColumns);
    const int pairs = pairs_of(count), rest = count - pairs * kRows * kPair;
    return pairs * over + (rest > 0 ? pieces(over, kPair) : 0);
  }
  static __device__ int pairs_of(int count) {
    return count / (kRows * kPair) + (count % (kRows * kPair) > kRows ? 1 : 0);
  }
  __device__ bool find_sums(int unit, Work& w) const {
    const int over = pieces(sizes.n, kColumns), each = pieces(sizes.m, kRows * kPair) * over,
              at = unit % each;
    if (unit / each >= sizes.experts) return false;
    w.expert = order.experts[unit / each];
    const int count = table.count(w.expert);
    w.row = (at / over * kPair + rank) * kRows, w.end = sizes.m, w.column = at % over * kColumns;
    w.first = table.rows[w.expert], w.steps = pieces(count, kStep), w.apart = false;
    return count > 0 || !sizes.add;  // those after it have none either
  }
  __device__ bool find(int unit, Work& w) {
    if (kKind == Kind::kSums) return find_sums(unit, w);
    expert = table.expert_of(unit, expert, sizes.experts);
    if (expert == sizes.experts) return false;
    const int at = unit - table.units[expert], over = pieces(sizes.n, kColumns), first = table.rows[expert],
              count = table.count(expert);
    const int pairs = pairs_of(count);
    w.expert = expert, w.end = first + count, w.first = 0, w.steps = pieces(sizes.k, kStep);
    w.apart = at >= pairs * over;
    if (w.apart)
      w.row = first + pairs * kRows * kPair, w.column = ((at - pairs * over) * kPair + rank) * kColumns;
    else
      w.row = first + (at % pairs * kPair + rank) * kRows, w.column = at / pairs * kColumns;
    return true;
  }
};

// One thread's: starts copying what a step needs. Tiles of a: 64 rows; of b: 128 rows where kAcross, else 64.
template <Kind kKind>
__device__ void fetch(bf16* stage, const CUtensorMap& a, const CUtensorMap& b, const GroupSizes& sizes,
                      const Work& w, int rank, int step, Barrier* full) {
  const int k = step * kStep;
  bf16* right = stage + kLeft;
  arrive_for_bytes(full, kBytes);
  if (kKind == Kind::kSums) {
    for (int i = 0; i < kGroups; ++i) copy_tile(stage + i * kSquare, a, w.first + k, w.row + i * 64, full);
    for (int i = rank * 2; i < rank * 2 + 2; ++i)
      copy_tile_to_all<kPair>(right + i * kSquare, b, w.first + k, w.column + i * 64, full);
    return;
  }
  if (w.apart)
    copy_tile_to_all<kPair>(stage + rank * kSquare, a, w.row + rank * 64, k, full);
  else
    for (int i = 0; i < kGroups; ++i) copy_tile(stage + i * kSquare, a, w.row + i * 64, k, full);
  if (kKind == Kind::kAcross) {
    const int row = w.expert * sizes.n + w.column;
    if (w.apart)
      for (int i = 0; i < kPair; ++i) copy_tile(right + i * 2 * kSquare, b, row + i * 128, k, full);
    else
      copy_tile_to_all<kPair>(right + rank * 2 * kSquare, b, row + rank * 128, k, full);
  } else {
    const int row = w.expert * sizes.k + k;
    if (w.apart)
      for (int i = 0; i < 4; ++i) copy_tile(right + i * kSquare, b, row, w.column + i * 64, full);
    else
      for (int i = rank * 2; i < rank * 2 + 2; ++i)
        copy_tile_to_all<kPair>(right + i * kSquare, b, row, w.column + i * 64, full);
  }
}

// sum (+)= a step of a warpgroup's 64 rows.
template <Kind kKind>
__device__ __forceinline__ void multiply_step(float (&sum)[kColumns / 8][4], const bf16* stage, int group,
                                              bool keep) {
  constexpr bool kRightDown = kKind != Kind::kAcross, kLeftDown = kKind == Kind::kSums;
  constexpr int kPitch = kSquare * static_cast<int>(sizeof(bf16));
  const bf16 *left = stage + group * kSquare, *right = stage + kLeft;
  begin_products();
#pragma unroll
  for (int k = 0; k < kStep; k += 16)
    multiply<kRightDown, kLeftDown>(sum, kLeftDown ? down(left, k, kPitch) : across(left, k),
                                    kRightDown ? down(right, k, kPitch) : across(right, k), keep || k > 0);
  commit_products();
}

// Rows of the stage from `live` on are another expert's: zeros. By a warpgroup, of what it reads.
__device__ void clear_rows(bf16* stage, int group, int live) {
  const int thread = static_cast<int>(threadIdx.x) % kGroup, rows = kStep - live;
  for (int i = thread; i < 5 * rows * 8; i += kGroup) {
    const int panel = i / (rows * 8), at = live * 8 + i % (rows * 8);
    bf16* to = panel < 4 ? stage + kLeft + panel * kSquare : stage + group * kSquare;
    reinterpret_cast<uint4*>(to)[at] = make_uint4(0, 0, 0, 0);
  }
  show_to_products();
  meet_warpgroup(group);
}

// Two rows a lane, `row` and the eighth after it, of a warp's 16.
template <class C>
struct Out {
  Rows<C> c;
  int n;
  bool wide;  // rows begin at multiples of 16 bytes, and are whole packs of them
  bool add;

  __device__ void put_pairs(const float (&sum)[kColumns / 8][4], int half, int64_t row, int column) const {
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      const int at = column + j * 8;
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (at + i < n) {
          C* to = c[row] + at + i;
          put(to, add ? as_float(*to) + sum[j][2 * half + i] : sum[j][2 * half + i]);
        }
    }
  }
  __device__ void put_row(const float (&sum)[kColumns / 8][4], int half, int64_t row, int end, int column,
                          int lane) const {
    if constexpr (std::is_same_v<C, bf16>) {
      if (!wide || add) {  // of sums: rounded once, after the old is added
        if (row < end) put_pairs(sum, half, row, column + lane % 4 * 2);
        return;
      }
#pragma unroll
      for (int j = 0; j < kColumns / 8; j += 4) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) r[i] = pair_of(sum[j + i][2 * half], sum[j + i][2 * half + 1]);
        gather_eights(r, lane);
        const int at = column + (j + lane % 4) * 8;
        if (row < end && at < n) *reinterpret_cast<uint4*>(c[row] + at) = make_uint4(r[0], r[1], r[2], r[3]);
      }
    } else {
      if (row >= end) return;
      if (!wide) return put_pairs(sum, half, row, column + lane % 4 * 2);
      constexpr int kAtOnce = 16;  // reads under way
#pragma unroll
      for (int first = 0; first < kColumns / 8; first += kAtOnce) {
        const int at = column + first * 8 + lane % 4 * 2;
        auto* const to = reinterpret_cast<float2*>(c[row] + at);
        float2 old[kAtOnce];
        if (add)
#pragma unroll
          for (int j = 0; j < kAtOnce; ++j) old[j] = at + j * 8 < n ? __ldcs(to + j * 4) : float2{};
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          float2 v = make_float2(sum[first + j][2 * half], sum[first + j][2 * half + 1]);
          if (add) v.x += old[j].x, v.y += old[j].y;
          if (at + j * 8 < n) __stcs(to + j * 4, v);
        }
      }
    }
  }
};

template <Kind kKind, class C>
__global__ void __launch_bounds__((kGroups + 1) * kGroup, 1)
    multiply_groups_of_rows(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                            const int32_t* counts, const GroupSizes sizes, const Out<C> out) {
#ifdef FLAGSCALE_HOPPER
  extern __shared__ uint8_t memory[];
  __shared__ Pipe pipe;
  __shared__ GroupTable table;
  __shared__ Order order;
  auto* stages = reinterpret_cast<bf16*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  table.fill(counts, sizes.experts, [&](int count) { return Schedule<kKind>::units_of(count, sizes); });
  if (kKind == Kind::kSums) order.fill(counts, sizes.experts);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) init_barrier(&pipe.full[i], 1), init_barrier(&pipe.empty[i], 2 * kPair);
    show_barriers();
  }
  __syncthreads();
  meet_in_pair();
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kGroup, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32, rank = static_cast<int>(blockIdx.x) % kPair;
  const int pairs = static_cast<int>(gridDim.x) / kPair;
  Schedule<kKind> schedule{table, order, sizes, rank};
  Slot slot;
  Work w;
  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x % kGroup == 0)
      for (int unit = static_cast<int>(blockIdx.x) / kPair; schedule.find(unit, w); unit += pairs)
        for (int step = 0; step < w.steps; ++step, slot.next()) {
          wait(&pipe.empty[slot.index], slot.phase ^ 1);
          fetch<kKind>(stages + slot.index * kNumbers, a, b, sizes, w, rank, step, &pipe.full[slot.index]);
        }
    __syncwarp();
    meet_in_pair();  // nobody writes into or waits for this block any more
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  const int warp = static_cast<int>(threadIdx.x) % kGroup / 32;
  const auto release = [&](int index) {
    if (threadIdx.x % kGroup < kPair) arrive_at_block(&pipe.empty[index], threadIdx.x % kGroup);
  };
  for (int unit = static_cast<int>(blockIdx.x) / kPair; schedule.find(unit, w); unit += pairs) {
    float sum[kColumns / 8][4];
    if (kKind == Kind::kSums && w.steps == 0) {
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[j][i] = 0;
    }
    int before = 0;
    for (int step = 0; step < w.steps; ++step, slot.next()) {
      bf16* stage = stages + slot.index * kNumbers;
      wait(&pipe.full[slot.index], slot.phase);
      if (kKind == Kind::kSums) {
        const int live = table.count(w.expert) - step * kStep;
        if (live < kStep) clear_rows(stage, group, live);
      }
      multiply_step<kKind>(sum, stage, group, step > 0);
      wait_for_products<1>();
      if (step > 0) release(before);
      before = slot.index;
    }
    wait_for_products<0>();
    settle(sum);
    if (w.steps > 0) release(before);
    const int of_expert = kKind == Kind::kSums ? w.expert * sizes.m : 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = w.row + group * 64 + warp * 16 + half * 8 + lane / 4;
      out.put_row(sum, half, of_expert + row, of_expert + w.end, w.column, lane);
    }
  }
  meet_in_pair();
#else
  __trap();
#endif
}

template <Kind kKind, class C>
void launch(const GroupedMatmulArgs& args, const GroupSizes& sizes, const TensorView& result) {
  const auto kernel = multiply_groups_of_rows<kKind, C>;
  allow_shared("grouped_matmul", kernel, kShared);
  const int64_t rows = args.a.rows();
  const auto map_of = [&](const TensorView& view, int tile_rows) {
    const int64_t all = kKind == Kind::kSums || &view == &args.a ? rows : view.dims[0];
    return tiles_of(view.data, all, view.cols(), view.row_stride(), tile_rows);
  };
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kPair, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(processors() / kPair * kPair));
  config.blockDim = dim3((kGroups + 1) * kGroup);
  config.dynamicSmemBytes = kShared;
  config.stream = cudaStreamPerThread;
  config.attrs = &cluster;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, kernel, map_of(args.a, 64), map_of(args.b, kKind == Kind::kAcross ? 128 : 64),
                     args.counts.ptr<const int32_t>(), sizes,
                     Out<C>{rows_of<C>(result), sizes.n, wide(result), sizes.add});
  check_launch("grouped_matmul");
}

bool aligned(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.row_stride() % 8 == 0;
}

}  // namespace

bool multiply_groups_by_warpgroups(const GroupedMatmulArgs& args, const GroupSizes& sizes) {
  if (!on_hopper() || args.a.dtype != DType::kBF16 || !aligned(args.a) || !aligned(args.b)) return false;
  if (sizes.sums && args.sum.dtype == DType::kBF16)
    return launch<Kind::kSums, bf16>(args, sizes, args.sum), true;
  if (sizes.sums) return launch<Kind::kSums, float>(args, sizes, args.sum), true;
  if (!args.out.defined() || args.out.dtype != DType::kBF16) return false;
  if (args.trans_b) return launch<Kind::kAcross, bf16>(args, sizes, args.out), true;
  if (sizes.k % kStep != 0) return false;  // the rest of a step would be the next expert's rows
  return launch<Kind::kDown, bf16>(args, sizes, args.out), true;
}

}  // namespace flagscale::op
