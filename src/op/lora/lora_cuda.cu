// Two kernels: h = A x of each row's adapter, then y += B (scale h), of all projections of a product at once.
// They are bound by reading x and by reading and writing y; of single tokens by what a kernel takes to start.
//
// In bf16 products are mma.m16n8k16's, rows of x on the left. A sum of h is cut along k into chains of
// kChain, which are added in order within a group of kWarps and then group by group, by one block or by those
// who read h; h is rounded to bf16, and y += one chain along the ranks. So a row has the same bits in any
// tile. A tile of rows with several adapters is computed for each, and rows keep their own.
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
constexpr int kRanks = 16;                             // at once
constexpr int kUnit = 32;                              // columns of y of a warp
constexpr int64_t kSplitRows = 2048;                   // up to so many, groups of a sum are blocks' own
constexpr unsigned kAll = 0xffffffffu;

template <class T>
struct Part {
  const T *a, *b;
  int64_t a_slot, b_slot, a_expert, b_expert;  // numbers from one slot's or expert's matrix to the next
  const int32_t* ranks;
  const float* scales;
  Rows<T> y;
  int64_t out;
  int first, width;  // its columns of h, a multiple of kRanks
};

template <class T>
struct Job {
  Rows<const T> x;
  const int32_t* slots;
  Part<T> parts[kMostLoraParts];
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
__global__ void __launch_bounds__(kThreads) shrink(Job<bf16> p, int passes) {
  let_next_start();
  wait_for_previous();
  constexpr int kRows = kM * 16;
  __shared__ float chains[kWarps][kRows][kRanks + 1];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t row = int64_t{blockIdx.x} * kRows;
  const Tile tile = tile_of(p.slots, row, kRows, p.rows);
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
      const bf16* a = part.a + slot * part.a_slot + expert * part.a_expert + begin * p.in;
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

// A block: kM * 16 rows of h, whose sums it adds, by `units` units of columns a warp.
template <int kM>
__global__ void __launch_bounds__(kThreads) expand(Job<bf16> p, int units) {
  let_next_start();
  wait_for_previous();
  constexpr int kRows = kM * 16;
  extern __shared__ uint4 shared[];
  __shared__ int owns[kRows];
  auto* const h = reinterpret_cast<bf16*>(shared);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t row = int64_t{blockIdx.y} * kRows;
  const Tile tile = tile_of(p.slots, row, kRows, p.rows);
  if (tile.first == 0) return;
  int block = static_cast<int>(blockIdx.x);
  const Part<bf16>& part =
      p.parts[find_part(p, block, [&](const Part<bf16>& one) { return blocks_of(one.out, units); })];
  if (thread < kRows) owns[thread] = tile.own;
  __syncthreads();
  const int pitch = part.width + 8;
  for (int i = thread; i < kRows * part.width; i += kThreads) {
    const int at = i / part.width, rank = i % part.width, slot = owns[at] < 0 ? -1 : owns[at] / p.experts;
    float sum = 0;
    if (slot >= 0 && rank < part.ranks[slot]) {
      const float* from = p.h + (row + at) * p.pitch + part.first + rank;
#pragma unroll 4
      for (int s = 0; s < p.sums; ++s) sum += from[s * p.rows * p.pitch];
      sum *= part.scales[slot];
    }
    put(h + at * pitch + rank, sum);
  }
  __syncthreads();
  for (unsigned left = tile.first; left; left &= left - 1) {
    const int which = __shfl_sync(kAll, tile.own, __ffs(static_cast<int>(left)) - 1);
    const int slot = which / p.experts, expert = which % p.experts, rank = part.ranks[slot];
    const bf16* b = part.b + slot * part.b_slot + expert * part.b_expert;
    for (int unit = 0; unit < units && rank > 0; ++unit) {
      const int64_t column = ((int64_t{block} * units + unit) * kWarps + warp) * kUnit + lane % 4 * 8;
      const bool there = column < part.out;
      float sum[kM][4][4] = {};
      add_ranks(sum, h, pitch, b + column, rank, part.out, there);
#pragma unroll
      for (int i = 0; i < kM; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int at = i * 16 + half * 8 + lane / 4;
          if (!there || owns[at] != which) continue;
          bf16* const to = part.y[row + at] + column;
          float y[8];
          load(to, y);
#pragma unroll
          for (int j = 0; j < 8; ++j) y[j] += sum[i][j / 2][half * 2 + j % 2];
          store(to, y);
        }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) shrink_plainly(Job<T> p) {
  const int64_t row = blockIdx.x;
  const int which = p.slots[row], lane = static_cast<int>(threadIdx.x) % 32;
  const int column = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / 32);
  if (which < 0 || column >= p.pitch) return;
  int rank = column;
  const Part<T>& part = p.parts[find_part(p, rank, [](const Part<T>& one) { return one.width; })];
  const int slot = which / p.experts;
  if (rank >= part.ranks[slot]) return;
  const T *a = part.a + slot * part.a_slot + which % p.experts * part.a_expert + rank * p.in, *x = p.x[row];
  float sum = 0;
  for (int64_t k = lane; k < p.in; k += 32) sum = fmaf(as_float(x[k]), as_float(a[k]), sum);
  sum = warp_sum(sum);
  if (lane == 0) p.h[row * p.pitch + column] = part.scales[slot] * sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) expand_plainly(Job<T> p) {
  const int64_t row = blockIdx.x;
  const int which = p.slots[row];
  if (which < 0) return;
  int block = static_cast<int>(blockIdx.y);
  const Part<T>& part =
      p.parts[find_part(p, block, [](const Part<T>& one) { return blocks_of(one.out, 1); })];
  const int64_t column = int64_t{block} * kThreads + threadIdx.x;
  if (column >= part.out) return;
  const int slot = which / p.experts, rank = part.ranks[slot];
  const T* b = part.b + slot * part.b_slot + which % p.experts * part.b_expert + column;
  const float* h = p.h + row * p.pitch + part.first;
  float sum = 0;
  for (int j = 0; j < rank; ++j) sum = fmaf(h[j], as_float(b[j * part.out]), sum);
  T* const to = part.y[row] + column;
  if (rank > 0) put(to, as_float(*to) + sum);
}

int64_t most_rank(const LoraArgs& args, const LoraAddition& part) {
  return part.a.cols() / (args.x.cols() * args.experts);
}
int64_t pitch_of(const LoraArgs& args) {
  int64_t pitch = 0;
  for (const LoraAddition& part : args.parts)
    if (part.y.defined()) pitch += divide_up(most_rank(args, part), kRanks) * kRanks;
  return pitch;
}

template <class T>
Job<T> job_of(const LoraArgs& args, void* workspace) {
  Job<T> job{};
  job.x = rows_of<const T>(args.x);
  job.slots = args.slots.ptr<const int32_t>();
  job.rows = args.x.rows(), job.in = args.x.cols();
  job.experts = static_cast<int>(args.experts);
  job.h = static_cast<float*>(workspace);
  job.sums = 1;
  for (const LoraAddition& from : args.parts) {
    if (!from.y.defined()) break;
    const int width = static_cast<int>(divide_up(most_rank(args, from), kRanks)) * kRanks;
    job.parts[job.count++] = {from.a.ptr<const T>(),
                              from.b.ptr<const T>(),
                              from.a.row_stride(),
                              from.b.row_stride(),
                              from.a.cols() / args.experts,
                              from.b.cols() / args.experts,
                              from.ranks.ptr<const int32_t>(),
                              from.scales.ptr<const float>(),
                              rows_of<T>(from.y),
                              from.y.cols(),
                              job.pitch,
                              width};
    job.pitch += width;
  }
  return job;
}

template <int kM>
void launch(Job<bf16>& job) {
  constexpr int64_t kBlocks = 264;  // two for each multiprocessor of an H100
  const int64_t tiles = divide_up(job.rows, kM * 16), groups = divide_up(job.in, kGroup);
  const int passes = job.pitch / kRanks;
  job.sums = job.rows <= kSplitRows ? static_cast<int>(groups) : 1;
  const bool few = tiles * job.sums < kBlocks;
  const auto rows = static_cast<unsigned>(tiles);
  launch_early(shrink<kM>,
               dim3(rows, static_cast<unsigned>(job.sums), few ? static_cast<unsigned>(passes) : 1), kThreads,
               0, job, passes);
  const auto columns = [&](int units) {
    int64_t blocks = 0;
    for (int i = 0; i < job.count; ++i) blocks += blocks_of(job.parts[i].out, units);
    return blocks;
  };
  const int units = tiles * columns(4) >= kBlocks ? 4 : 1;
  int widest = 0;
  for (const Part<bf16>& part : job.parts) widest = part.width > widest ? part.width : widest;
  const size_t shared = size_t{kM} * 16 * static_cast<size_t>(widest + 8) * sizeof(bf16);
  launch_early(expand<kM>, dim3(static_cast<unsigned>(columns(units)), rows), kThreads, shared, job, units);
}

void launch_plainly(const auto& job) {
  const auto rows = static_cast<unsigned>(job.rows);
  unsigned blocks = 0;
  for (int i = 0; i < job.count; ++i) blocks += static_cast<unsigned>(blocks_of(job.parts[i].out, 1));
  shrink_plainly<<<dim3(rows, static_cast<unsigned>(divide_up(job.pitch, kWarps))), kThreads>>>(job);
  expand_plainly<<<dim3(rows, blocks), kThreads>>>(job);
}

bool by_pieces(const LoraArgs& args) {
  bool all = wide(args.x);
  for (const LoraAddition& part : args.parts)
    all = all && (!part.y.defined() || (wide(part.a) && wide(part.b) && wide(part.y)));
  return all;
}

void run(KernelContext& context, const LoraArgs& args) {
  if (args.x.rows() == 0 || args.slots.size() == 0) return;
  for_float_type(args.x.dtype, "lora", [&]<class T>(T) {
    Job<T> job = job_of<T>(args, context.workspace.data());
    if constexpr (std::is_same_v<T, bf16>)
      if (by_pieces(args)) return job.rows <= 16 ? launch<1>(job) : launch<2>(job);
    launch_plainly(job);
  });
  check_launch("lora");
}

size_t workspace(const LoraArgs& args, int) {
  const int64_t rows = args.x.dims[0] * (args.x.rank == 3 ? args.x.dims[1] : 1);
  const int64_t split = (rows < kSplitRows ? rows : kSplitRows) * divide_up(args.x.cols(), kGroup);
  return static_cast<size_t>((rows > split ? rows : split) * pitch_of(args)) * sizeof(float);
}

const CudaKernel<LoraArgs> kKernel{kLora, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
