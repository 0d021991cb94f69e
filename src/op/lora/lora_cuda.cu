// Bound by reading x and by reading and writing y; of single tokens by what a kernel takes to start: which
// adapters there are is read, and their matrices are sent for, while the kernel before still runs.
//
// In bf16 products are mma.m16n8k16's, rows of x on the left. A sum of h is cut along k into chains of
// kChain, which are added in order within a group of kWarps and then group by group, by one block or by those
// who read h; scale h is rounded to bf16, and y += one chain along the ranks. So a row has the same bits in
// any tile. A tile of rows with several adapters is computed for each, and rows keep their own.
//
// fp32, for checks, and rows that are not multiples of 16 bytes: a warp an element of h, a thread one of y.
#include <type_traits>

#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"
#include "op/lora/lora.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kChain = 128, kGroup = kWarps * kChain;  // of k
static_assert(kLoraGroup == kWarps * kChain);
constexpr int kRanks = kLoraRanks;  // at once
constexpr int kUnit = 32;           // columns of y of a warp
constexpr unsigned kAll = 0xffffffffu;

// A or B of a projection.
template <class T>
struct Part {
  const T* matrices;
  int64_t of_slot, of_expert;  // numbers from one slot's or expert's to the next
  const int32_t* ranks;
  int64_t size;      // columns of y
  int first, width;  // its columns of h, a multiple of kRanks
  Rows<T> y;
  const float* scales;
  __device__ const T* of(int slot, int expert) const {
    return matrices + slot * of_slot + expert * of_expert;
  }
};

template <class T>
struct Job {
  const int32_t* slots;
  Part<T> parts[kMostLoraParts];
  Rows<const T> x;
  int64_t rows, in;
  int experts, count;  // count: parts
  float* h;            // [sums, rows, pitch]
  int pitch, sums;     // sums: of groups, that are still to be added
};

// The part that has place `at` where each has places(part) one after another, and its own place there.
template <class T, class Places>
__device__ int find_part(const Job<T>& job, int& at, Places&& places) {
  int part = 0;
  while (part + 1 < job.count && at >= places(job.parts[part])) at -= places(job.parts[part++]);
  return part;
}

// Which matrices the rows of a tile have. own: of a lane's row, -1: none; first: a bit for each row whose
// matrices no row before it has.
struct Tile {
  int own;
  unsigned first;
};
__device__ Tile tile_of(const int32_t* slots, int64_t row, int size, int64_t rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Tile tile{};
  tile.own = lane < size && row + lane < rows ? slots[row + lane] : -1;
  const unsigned same = __match_any_sync(kAll, tile.own);
  tile.first = __ballot_sync(kAll, tile.own >= 0 && (same & ((1u << lane) - 1)) == 0);
  return tile;
}

__device__ void send_for(const void* line) { asm volatile("prefetch.global.L2 [%0];" ::"l"(line)); }
__device__ uint4 read_16(const bf16* from, bool there) {
  return there ? *reinterpret_cast<const uint4*>(from) : uint4{};
}

// A chain from column k: sum += kM * 16 rows of x by kRanks of A, of which `ranks` are there. Eight
// neighbours of k are a lane's, in x and A alike.
template <int kM>
__device__ void add_chain(float (&sum)[kM][2][4], const bf16* const (&x)[kM][2], const bf16* a, int64_t k,
                          int64_t in, int ranks) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4;
#pragma unroll
  for (int step = 0; step < kChain / 32; ++step) {
    const int64_t at = k + step * 32 + lane % 4 * 8;
    uint4 left[kM][2], right[2];
#pragma unroll
    for (int j = 0; j < 2; ++j)
      right[j] = read_16(a + (j * 8 + row) * in + at, at < in && j * 8 + row < ranks);
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) left[i][j] = read_16(x[i][j] + at, at < in);
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const Fragment low{left[i][0].x, left[i][1].x, left[i][0].y, left[i][1].y},
            high{left[i][0].z, left[i][1].z, left[i][0].w, left[i][1].w};
        multiply_add(sum[i][j], low, right[j].x, right[j].y);
        multiply_add(sum[i][j], high, right[j].z, right[j].w);
      }
  }
}

// A block: kM * 16 rows; its groups of k and ranks begin at blockIdx's y and z.
template <int kM>
__global__ void __launch_bounds__(kThreads) multiply_down(Job<bf16> p, int passes) {
  let_next_start();
  constexpr int kRows = kM * 16;
  __shared__ float chains[kWarps][kRows][kRanks + 1];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t row = int64_t{blockIdx.x} * kRows;
  if (p.experts > 1) wait_for_previous();  // else nobody writes which adapters there are
  const Tile tile = tile_of(p.slots, row, kRows, p.rows);
  if (tile.first) {  // of the first adapter
    const int which = __shfl_sync(kAll, tile.own, __ffs(static_cast<int>(tile.first)) - 1);
    int begin = static_cast<int>(blockIdx.z) * kRanks;
    const Part<bf16>& part = p.parts[find_part(p, begin, [](const Part<bf16>& one) { return one.width; })];
    const int slot = which / p.experts, rank = begin + thread / kRanks;
    const int64_t k = int64_t{blockIdx.y} * kGroup + thread % kRanks * 64;
    if (rank < part.ranks[slot] && k < p.in) send_for(part.of(slot, which % p.experts) + rank * p.in + k);
  }
  if (p.experts == 1) wait_for_previous();
  const bf16* x[kM][2];
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int64_t at = row + i * 16 + j * 8 + lane / 4;
      x[i][j] = p.x[at < p.rows ? at : p.rows - 1];
    }
  for (unsigned left = tile.first; left; left &= left - 1) {
    const int which = __shfl_sync(kAll, tile.own, __ffs(static_cast<int>(left)) - 1);
    const int slot = which / p.experts, expert = which % p.experts;
    for (int pass = static_cast<int>(blockIdx.z); pass < passes; pass += static_cast<int>(gridDim.z)) {
      int begin = pass * kRanks;
      const Part<bf16>& part = p.parts[find_part(p, begin, [](const Part<bf16>& one) { return one.width; })];
      const int ranks = part.ranks[slot] - begin;
      if (ranks <= 0) continue;
      const bf16* a = part.of(slot, expert) + begin * p.in;
      float total[kM] = {};
      for (int64_t k = int64_t{blockIdx.y} * kGroup; k < p.in; k += int64_t{gridDim.y} * kGroup) {
        float sum[kM][2][4] = {};
        add_chain(sum, x, a, k + warp * kChain, p.in, ranks);
        __syncthreads();  // the chains before have been read
#pragma unroll
        for (int i = 0; i < kM; ++i)
#pragma unroll
          for (int j = 0; j < 2; ++j)
#pragma unroll
            for (int r = 0; r < 4; ++r)
              chains[warp][i * 16 + r / 2 * 8 + lane / 4][j * 8 + lane % 4 * 2 + r % 2] = sum[i][j][r];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kM; ++i) {
          float group = 0;
#pragma unroll
          for (int w = 0; w < kWarps; ++w) group += chains[w][i * 16 + thread / kRanks][thread % kRanks];
          total[i] += group;
        }
      }
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        const int at = i * 16 + thread / kRanks;
        const bool mine = __shfl_sync(kAll, tile.own, at) == which && thread % kRanks < ranks;
        if (mine)
          p.h[(int64_t{blockIdx.y} * p.rows + row + at) * p.pitch + part.first + begin + thread % kRanks] =
              total[i];
      }
    }
  }
}

// A tile of 8 x 8 of bf16, two neighbours of a row a lane, across.
__device__ uint32_t across_of(uint32_t pair) {
  uint32_t result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

// sum: kM * 16 rows of h by kUnit columns of B from its `rank` rows; a lane has eight neighbours of a row,
// two in each of the four.
template <int kM>
__device__ void add_ranks(float (&sum)[kM][4][4], const bf16* h, int pitch, const bf16* b, int rank,
                          int64_t out, bool there) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int k = 0; k < rank; k += kRanks) {
    const int row = k + lane / 4;
    const uint4 low = read_16(b + row * out, there && row < rank),
                high = read_16(b + (row + 8) * out, there && row + 8 < rank);
    const uint32_t lows[4] = {low.x, low.y, low.z, low.w}, highs[4] = {high.x, high.y, high.z, high.w};
    Fragment left[kM];
#pragma unroll
    for (int i = 0; i < kM; ++i) load_left(left[i], h, pitch, i * 16, k, lane);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t b0 = across_of(lows[j]), b1 = across_of(highs[j]);
#pragma unroll
      for (int i = 0; i < kM; ++i) multiply_add(sum[i][j], left[i], b0, b1);
    }
  }
}

__host__ __device__ inline int blocks_of(int64_t out, int units) {
  return static_cast<int>((out + units * kWarps * kUnit - 1) / (units * kWarps * kUnit));
}

// Sums of groups of rank `rank` of a row, in order.
template <class T>
__device__ float whole_sum(const Job<T>& p, const Part<T>& part, int64_t row, int rank) {
  const float* from = p.h + row * p.pitch + part.first + rank;
  float sum = 0;
#pragma unroll 4
  for (int s = 0; s < p.sums; ++s) sum += from[s * p.rows * p.pitch];
  return sum;
}

// A block: kM * 16 rows of h by `units` units of columns a warp.
template <int kM>
__global__ void __launch_bounds__(kThreads, 3) multiply_up(Job<bf16> p, int units) {
  let_next_start();
  constexpr int kRows = kM * 16;
  extern __shared__ uint4 shared[];
  __shared__ int owns[kRows];
  auto* const h = reinterpret_cast<bf16*>(shared);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t row = int64_t{blockIdx.y} * kRows;
  if (p.experts > 1) wait_for_previous();
  const Tile tile = tile_of(p.slots, row, kRows, p.rows);
  if (tile.first == 0) {  // y is not touched before the product that it is of has ended
    if (p.experts == 1) wait_for_previous();
    return;
  }
  int block = static_cast<int>(blockIdx.x);
  const Part<bf16>& part =
      p.parts[find_part(p, block, [&](const Part<bf16>& one) { return blocks_of(one.size, units); })];
  const int64_t first = int64_t{block} * units * kWarps * kUnit;
  if (thread < kRows) owns[thread] = tile.own;
  {  // of the first adapter
    const int which = __shfl_sync(kAll, tile.own, __ffs(static_cast<int>(tile.first)) - 1);
    const int slot = which / p.experts, rank = thread / kRanks, piece = thread % kRanks * 64;
    if (rank < part.ranks[slot] && piece < units * kWarps * kUnit && first + piece < part.size)
      send_for(part.of(slot, which % p.experts) + rank * part.size + first + piece);
  }
  __syncthreads();
  if (p.experts == 1) wait_for_previous();
  const int pitch = part.width + 8;
  for (int i = thread; i < kRows * part.width; i += kThreads) {
    const int at = i / part.width, rank = i % part.width, slot = owns[at] < 0 ? -1 : owns[at] / p.experts;
    const bool there = slot >= 0 && rank < part.ranks[slot];
    put(h + at * pitch + rank, there ? part.scales[slot] * whole_sum(p, part, row + at, rank) : 0.f);
  }
  __syncthreads();
  for (unsigned left = tile.first; left; left &= left - 1) {
    const int which = __shfl_sync(kAll, tile.own, __ffs(static_cast<int>(left)) - 1);
    const int slot = which / p.experts, rank = part.ranks[slot];
    const bf16* b = part.of(slot, which % p.experts);
    for (int unit = 0; unit < units && rank > 0; ++unit) {
      const int64_t column = first + (unit * kWarps + warp) * kUnit + lane % 4 * 8;
      const bool there = column < part.size;
      uint4 y[kM][2];  // on its way while B is
      bool mine[kM][2];
#pragma unroll
      for (int i = 0; i < kM; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int at = i * 16 + half * 8 + lane / 4;
          mine[i][half] = there && owns[at] == which;
          y[i][half] = read_16(part.y[row + at] + column, mine[i][half]);
        }
      float sum[kM][4][4] = {};
      add_ranks(sum, h, pitch, b + column, rank, part.size, there);
#pragma unroll
      for (int i = 0; i < kM; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!mine[i][half]) continue;
          float v[8];
          load(reinterpret_cast<const bf16*>(&y[i][half]), v);
#pragma unroll
          for (int j = 0; j < 8; ++j) v[j] += sum[i][j / 2][half * 2 + j % 2];
          store(part.y[row + i * 16 + half * 8 + lane / 4] + column, v);
        }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) down_plainly(Job<T> p) {
  const int64_t row = blockIdx.x;
  const int which = p.slots[row], lane = static_cast<int>(threadIdx.x) % 32;
  const int column = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / 32);
  if (which < 0 || column >= p.pitch) return;
  int rank = column;
  const Part<T>& part = p.parts[find_part(p, rank, [](const Part<T>& one) { return one.width; })];
  const int slot = which / p.experts;
  if (rank >= part.ranks[slot]) return;
  const T *a = part.of(slot, which % p.experts) + rank * p.in, *x = p.x[row];
  float sum = 0;
  for (int64_t k = lane; k < p.in; k += 32) sum = fmaf(as_float(x[k]), as_float(a[k]), sum);
  sum = warp_sum(sum);
  if (lane == 0) p.h[row * p.pitch + column] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) up_plainly(Job<T> p) {
  const int64_t row = blockIdx.x;
  const int which = p.slots[row];
  if (which < 0) return;
  int block = static_cast<int>(blockIdx.y);
  const Part<T>& part =
      p.parts[find_part(p, block, [](const Part<T>& one) { return blocks_of(one.size, 1); })];
  const int64_t column = int64_t{block} * kThreads + threadIdx.x;
  if (column >= part.size) return;
  const int slot = which / p.experts, rank = part.ranks[slot];
  const T* b = part.of(slot, which % p.experts) + column;
  float sum = 0;
  for (int j = 0; j < rank; ++j)
    sum = fmaf(part.scales[slot] * whole_sum(p, part, row, j), as_float(b[j * part.size]), sum);
  T* const to = part.y[row] + column;
  if (rank > 0) put(to, as_float(*to) + sum);
}

// size: of x's or y's rows.
template <class T>
void add_part(Job<T>& job, const TensorView& matrices, const TensorView& ranks, int64_t size) {
  const int64_t of_expert = matrices.cols() / job.experts;
  Part<T>& part = job.parts[job.count++];
  part.matrices = matrices.ptr<const T>();
  part.of_slot = matrices.row_stride(), part.of_expert = of_expert;
  part.ranks = ranks.ptr<const int32_t>();
  part.size = size;
  part.first = job.pitch, part.width = static_cast<int>(divide_up(of_expert / size, kRanks)) * kRanks;
  job.pitch += part.width;
}

int sums_of(int64_t rows, int64_t in, bool pieces) {
  return pieces && rows <= kLoraSplitRows ? static_cast<int>(divide_up(in, kGroup)) : 1;
}

constexpr int64_t kBlocks = 264;  // two for each multiprocessor of an H100

template <int kM>
void launch_down(const Job<bf16>& job) {
  const int64_t tiles = divide_up(job.rows, kM * 16);
  const int passes = job.pitch / kRanks;
  const bool few = tiles * job.sums < 2 * kBlocks;
  launch_early(multiply_down<kM>,
               dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(job.sums),
                    few ? static_cast<unsigned>(passes) : 1),
               kThreads, 0, job, passes);
}

void down(KernelContext&, const LoraDownArgs& args) {
  if (args.x.rows() == 0 || args.slots.size() == 0) return;
  for_float_type(args.x.dtype, "lora_down", [&]<class T>(T) {
    Job<T> job{};
    job.slots = args.slots.ptr<const int32_t>();
    job.x = rows_of<const T>(args.x);
    job.rows = args.x.rows(), job.in = args.x.cols();
    job.experts = static_cast<int>(args.experts);
    job.h = args.h.ptr<float>();
    for (const LoraDownPart& part : args.parts)
      if (part.a.defined()) add_part(job, part.a, part.ranks, job.in);
    job.sums = sums_of(job.rows, job.in, args.pieces);
    if constexpr (std::is_same_v<T, bf16>)
      if (args.pieces) return job.rows <= 16 ? launch_down<1>(job) : launch_down<2>(job);
    down_plainly<<<dim3(static_cast<unsigned>(job.rows), static_cast<unsigned>(divide_up(job.pitch, kWarps))),
                   kThreads>>>(job);
  });
  check_launch("lora_down");
}

template <int kM>
void launch_up(const Job<bf16>& job) {
  const int64_t tiles = divide_up(job.rows, kM * 16);
  const auto columns = [&](int units) {
    int64_t blocks = 0;
    for (int i = 0; i < job.count; ++i) blocks += blocks_of(job.parts[i].size, units);
    return blocks;
  };
  int units = 1, widest = 0;
  while (units < 8 && tiles * columns(2 * units) >= 2 * kBlocks) units *= 2;
  for (const Part<bf16>& part : job.parts) widest = part.width > widest ? part.width : widest;
  const size_t shared = size_t{kM} * 16 * static_cast<size_t>(widest + 8) * sizeof(bf16);
  launch_early(multiply_up<kM>, dim3(static_cast<unsigned>(columns(units)), static_cast<unsigned>(tiles)),
               kThreads, shared, job, units);
}

void up(KernelContext&, const LoraUpArgs& args) {
  const InOut& y = args.parts[0].y;
  if (y.rows() == 0 || args.slots.size() == 0) return;
  for_float_type(y.dtype, "lora_up", [&]<class T>(T) {
    Job<T> job{};
    job.slots = args.slots.ptr<const int32_t>();
    job.rows = y.rows(), job.in = args.in;
    job.experts = static_cast<int>(args.experts);
    job.h = args.h.ptr<float>();
    job.sums = sums_of(job.rows, job.in, args.pieces);
    bool pieces = true;
    unsigned blocks = 0;
    for (const LoraUpPart& from : args.parts) {
      if (!from.y.defined()) break;
      Part<T>& part = job.parts[job.count];
      add_part(job, from.b, from.ranks, from.y.cols());
      part.y = rows_of<T>(from.y), part.scales = from.scales.ptr<const float>();
      pieces = pieces && wide(from.b) && wide(from.y);
      blocks += static_cast<unsigned>(blocks_of(part.size, 1));
    }
    if constexpr (std::is_same_v<T, bf16>)
      if (pieces) return job.rows <= 16 ? launch_up<1>(job) : launch_up<2>(job);
    up_plainly<<<dim3(static_cast<unsigned>(job.rows), blocks), kThreads>>>(job);
  });
  check_launch("lora_up");
}

const CudaKernel<LoraDownArgs> kDownKernel{kLoraDown, &down};
const CudaKernel<LoraUpArgs> kUpKernel{kLoraUp, &up};

}  // namespace
}  // namespace flagscale::op
