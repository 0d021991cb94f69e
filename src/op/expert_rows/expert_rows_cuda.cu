// Bound by memory: rows are copied, scaled or added whole, a block a row. Sorting: chunks of choices count
// their experts, the counts of all chunks are summed, and each chunk puts its choices in order. A warp finds
// which of its 32 choices are of one expert by matching, and its counts lie beside those of other warps, so
// nothing is added in an order that varies. A single chunk is one launch.
#include "kernel/cuda/cuda.cuh"
#include "op/expert_rows/expert_rows.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kChunk = 1024, kWarps = kChunk / 32;  // choices of a block, one a thread
constexpr int kMostExperts = 1024;

// A choice, and how many of its warp's choices before it are of its expert.
struct Choice {
  int expert, before;  // expert: -1 where there is no choice
};

// of_warps: [kWarps][experts], shared: then how many of an expert's choices earlier warps have.
// end(expert, how many the chunk has).
template <class End>
__device__ Choice sort_chunk(const int32_t* expert_of, int choices, int experts, uint16_t* of_warps,
                             End&& end) {
  const int thread = static_cast<int>(threadIdx.x), warps = (choices + 31) / 32;
  for (int i = thread; i < warps * experts; i += static_cast<int>(blockDim.x)) of_warps[i] = 0;
  __syncthreads();
  Choice own{thread < choices ? expert_of[thread] : -1, 0};
  const unsigned same = __match_any_sync(0xffffffffu, own.expert);
  own.before = __popc(same & ((1u << thread % 32) - 1));
  if (own.expert >= 0 && own.before == 0)
    of_warps[thread / 32 * experts + own.expert] = static_cast<uint16_t>(__popc(same));
  __syncthreads();
  for (int expert = thread; expert < experts; expert += static_cast<int>(blockDim.x)) {
    int sum = 0;
    for (int warp = 0; warp < warps; ++warp) {
      uint16_t& count = of_warps[warp * experts + expert];
      const int here = count;
      count = static_cast<uint16_t>(sum);
      sum += here;
    }
    end(expert, sum);
  }
  __syncthreads();
  return own;
}

__device__ int choices_of_chunk(int64_t choices) {
  const int64_t left = choices - int64_t{blockIdx.x} * kChunk;
  return static_cast<int>(left < kChunk ? left : kChunk);
}

// of_chunks: [experts, chunks]
__global__ void __launch_bounds__(kChunk)
    count_choices(const int32_t* expert_of, int64_t choices, int experts, int32_t* of_chunks) {
  extern __shared__ uint16_t of_warps[];
  sort_chunk(expert_of + int64_t{blockIdx.x} * kChunk, choices_of_chunk(choices), experts, of_warps,
             [&](int expert, int count) { of_chunks[int64_t{expert} * gridDim.x + blockIdx.x] = count; });
}

// before[i]: the sum of counts before i; returns that of all. By one warp; counts may be before.
__device__ int sum_before(const int32_t* counts, int n, int32_t* before) {
  const int lane = static_cast<int>(threadIdx.x);
  int total = 0;
  for (int first = 0; first < n; first += 32) {
    const int count = first + lane < n ? counts[first + lane] : 0;
    int sum = count;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, sum, step);
      if (lane >= step) sum += other;
    }
    if (first + lane < n) before[first + lane] = total + sum - count;
    total += __shfl_sync(0xffffffffu, sum, 31);
  }
  return total;
}

// A block an expert.
__global__ void sum_chunks(int32_t* of_chunks, int chunks, int32_t* counts) {
  int32_t* const own = of_chunks + int64_t{blockIdx.x} * chunks;
  const int total = sum_before(own, chunks, own);
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
}
__global__ void sum_experts(const int32_t* counts, int experts, int32_t* first_rows) {
  sum_before(counts, experts, first_rows);
}

__global__ void __launch_bounds__(kChunk)
    place_choices(const int32_t* expert_of, int64_t choices, int experts, const int32_t* of_chunks,
                  const int32_t* first_rows, int32_t* rows, int32_t* choice_of_row) {
  extern __shared__ uint16_t of_warps[];
  const int64_t begin = int64_t{blockIdx.x} * kChunk;
  const Choice own =
      sort_chunk(expert_of + begin, choices_of_chunk(choices), experts, of_warps, [](int, int) {});
  if (own.expert < 0) return;
  const int32_t row = first_rows[own.expert] + of_chunks[int64_t{own.expert} * gridDim.x + blockIdx.x] +
                      of_warps[threadIdx.x / 32 * experts + own.expert] + own.before;
  rows[begin + threadIdx.x] = row;
  choice_of_row[row] = static_cast<int32_t>(begin + threadIdx.x);
}

// All of them are one chunk. Nothing starts before it ends (grouped_few_cuda.cuh).
__global__ void __launch_bounds__(kChunk)
    sort_one_chunk(const int32_t* expert_of, int choices, int experts, int32_t* counts, int32_t* rows,
                   int32_t* choice_of_row) {
  extern __shared__ int32_t first_rows[];
  auto* const of_warps = reinterpret_cast<uint16_t*>(first_rows + experts);
  wait_for_previous();
  const Choice own = sort_chunk(expert_of, choices, experts, of_warps,
                                [&](int expert, int count) { first_rows[expert] = counts[expert] = count; });
  if (threadIdx.x < 32) sum_before(first_rows, experts, first_rows);
  __syncthreads();
  if (own.expert < 0) return;
  const int32_t row = first_rows[own.expert] + of_warps[threadIdx.x / 32 * experts + own.expert] + own.before;
  rows[threadIdx.x] = row;
  choice_of_row[row] = static_cast<int32_t>(threadIdx.x);
}

void sort(KernelContext& context, const SortByExpertArgs& args) {
  constexpr size_t kBytes = kMostExperts * (kWarps * sizeof(uint16_t) + sizeof(int32_t));
  static_assert(kBytes <= kSharedAnywhere);
  static const bool once = (allow_shared("sort_by_expert", count_choices, kBytes),
                            allow_shared("sort_by_expert", place_choices, kBytes),
                            allow_shared("sort_by_expert", sort_one_chunk, kBytes), true);
  (void)once;
  const int64_t choices = args.experts.rows() * args.experts.cols(), chunks = divide_up(choices, kChunk);
  const int experts = static_cast<int>(args.counts.dims[0]);
  if (experts > kMostExperts) too_large("sort_by_expert", "the number of experts", experts, kMostExperts);
  auto* const counts = args.counts.ptr<int32_t>();
  auto* const first_rows = reinterpret_cast<int32_t*>(context.workspace.data());
  auto* const of_chunks = first_rows + experts;
  const auto* const expert_of = args.experts.ptr<const int32_t>();
  auto *const rows = args.rows.ptr<int32_t>(), *const choice_of_row = args.choices.ptr<int32_t>();
  const auto warps = static_cast<size_t>(chunks > 1 ? kWarps : divide_up(choices, 32)),
             of_warps = warps * static_cast<size_t>(experts) * sizeof(uint16_t);
  if (chunks <= 1) {
    const auto threads = static_cast<int>(warps < 4 ? 128 : warps * 32);
    launch_early(sort_one_chunk, dim3(1), threads, of_warps + static_cast<size_t>(experts) * sizeof(int32_t),
                 expert_of, static_cast<int>(choices), experts, counts, rows, choice_of_row);
    return check_launch("sort_by_expert");
  }
  const auto blocks = static_cast<unsigned>(chunks);
  count_choices<<<blocks, kChunk, of_warps>>>(expert_of, choices, experts, of_chunks);
  sum_chunks<<<static_cast<unsigned>(experts), 32>>>(of_chunks, static_cast<int>(chunks), counts);
  sum_experts<<<1, 32>>>(counts, experts, first_rows);
  place_choices<<<blocks, kChunk, of_warps>>>(expert_of, choices, experts, of_chunks, first_rows, rows,
                                              choice_of_row);
  check_launch("sort_by_expert");
}

size_t sort_workspace(const SortByExpertArgs& args, int) {
  const int64_t chunks = divide_up(args.experts.dims[0] * args.experts.cols(), kChunk);
  return static_cast<size_t>(args.counts.dims[0] * (chunks + 1)) * sizeof(int32_t);
}

__global__ void slots_of_rows(const int32_t* slots, const int32_t* first_rows, const int32_t* choices,
                              int32_t* rows, int64_t all, int experts, int top_k) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= all) return;
  int expert = 0, end = experts;  // the last one that begins at row or before it
  while (end - expert > 1) {
    const int middle = (expert + end) / 2;
    (first_rows[middle] <= row ? expert : end) = middle;
  }
  const int32_t slot = slots[choices[row] / top_k];
  rows[row] = slot < 0 ? -1 : slot * experts + expert;
}

void expert_slots(KernelContext& context, const ExpertSlotsArgs& args) {
  const int experts = static_cast<int>(args.counts.dims[0]), top_k = static_cast<int>(args.choices.cols());
  const int64_t rows = args.choices.rows() * top_k;
  if (rows == 0 || args.slots.size() == 0) return;
  auto* const first_rows = reinterpret_cast<int32_t*>(context.workspace.data());
  sum_experts<<<1, 32>>>(args.counts.ptr<const int32_t>(), experts, first_rows);
  slots_of_rows<<<static_cast<unsigned>(divide_up(rows, 256)), 256>>>(
      args.slots.ptr<const int32_t>(), first_rows, args.choices.ptr<const int32_t>(),
      args.rows.ptr<int32_t>(), rows, experts, top_k);
  check_launch("expert_slots");
}

size_t slots_workspace(const ExpertSlotsArgs& args, int) {
  return static_cast<size_t>(args.counts.dims[0]) * sizeof(int32_t);
}

// Of a choice; of the sums' type, or of the rows' where tests convert all alike; null: 1.
struct Weights {
  const void* data;
  bool narrow;
  __device__ float operator[](int64_t choice) const {
    if (!data) return 1;
    return narrow ? as_float(static_cast<const bf16*>(data)[choice])
                  : static_cast<const float*>(data)[choice];
  }
};
Weights weights_of(const TensorView& view) {
  return {view.defined() ? view.data : nullptr, view.dtype == DType::kBF16};
}

template <int N, class T>
__global__ void spread_rows(Rows<const T> x, const int32_t* choices, Weights weights, Rows<T> y, int top_k,
                            int64_t cols) {
  wait_for_previous();
  let_next_start();  // what comes next may read the counts at once
  const int64_t row = blockIdx.x;
  const int32_t choice = choices[row];
  const float weight = weights[choice];
  const T* from = x[choice / top_k];
  for (int64_t i = int64_t{threadIdx.x} * N; i < cols; i += int64_t{blockDim.x} * N) {
    float v[N];
    load(from + i, v);
#pragma unroll
    for (int j = 0; j < N; ++j) v[j] *= weight;
    store(y[row] + i, v);
  }
}

template <int N, class T>
__global__ void gather_rows(Rows<const T> x, const int32_t* rows, Weights weights, Rows<T> y, int top_k,
                            int64_t cols) {
  let_next_start();
  wait_for_previous();
  const int64_t token = blockIdx.x, first = token * top_k;
  for (int64_t i = int64_t{threadIdx.x} * N; i < cols; i += int64_t{blockDim.x} * N) {
    float sum[N] = {};
#pragma unroll 4
    for (int k = 0; k < top_k; ++k) {
      float v[N];
      load(x[rows[first + k]] + i, v);
      const float weight = weights[first + k];
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] = fmaf(weight, v[j], sum[j]);
    }
    store(y[token] + i, sum);
  }
}

// A warp a choice.
template <int N, class T, class W>
__global__ void dot_rows(Rows<const T> x, const int32_t* rows, Rows<const T> dy, W* dweights, int top_k,
                         int64_t choices, int64_t cols) {
  const int64_t choice = int64_t{blockIdx.x} * (blockDim.x / 32) + threadIdx.x / 32;
  if (choice >= choices) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const T *a = x[rows[choice]], *b = dy[choice / top_k];
  float sum = 0;
  for (int64_t i = int64_t{lane} * N; i < cols; i += 32 * N) {
    float v[N], d[N];
    load(a + i, v);
    load(b + i, d);
#pragma unroll
    for (int j = 0; j < N; ++j) sum = fmaf(v[j], d[j], sum);
  }
  sum = warp_sum(sum);
  if (lane == 0) put(dweights + choice, sum);
}

// run(std::integral_constant<int, N>): numbers at a time.
template <class T, class Run>
void by_packs(bool packed, Run&& run) {
  packed ? run(std::integral_constant<int, kWide<T>>{}) : run(std::integral_constant<int, 1>{});
}

void spread(KernelContext&, const SpreadArgs& args) {
  const int64_t rows = args.y.rows(), cols = args.x.cols();
  if (rows == 0) return;
  for_float_type(args.x.dtype, "spread", [&]<class T>(T) {
    by_packs<T>(wide(args.x) && wide(args.y), [&]<int N>(std::integral_constant<int, N>) {
      launch_early(spread_rows<N, T>, dim3(static_cast<unsigned>(rows)), row_threads(cols, N), 0,
                   rows_of<const T>(args.x), args.choices.ptr<const int32_t>(), weights_of(args.weights),
                   rows_of<T>(args.y), static_cast<int>(args.choices.cols()), cols);
    });
  });
  check_launch("spread");
}

void gather(KernelContext&, const GatherArgs& args) {
  const int64_t tokens = args.y.rows(), cols = args.y.cols();
  if (tokens == 0) return;
  for_float_type(args.x.dtype, "gather", [&]<class T>(T) {
    by_packs<T>(wide(args.x) && wide(args.y), [&]<int N>(std::integral_constant<int, N>) {
      launch_early(gather_rows<N, T>, dim3(static_cast<unsigned>(tokens)), row_threads(cols, N), 0,
                   rows_of<const T>(args.x), args.rows.ptr<const int32_t>(), weights_of(args.weights),
                   rows_of<T>(args.y), static_cast<int>(args.rows.cols()), cols);
    });
  });
  check_launch("gather");
}

void gather_weights(KernelContext&, const GatherWeightsArgs& args) {
  const int64_t top_k = args.rows.cols(), choices = args.dy.rows() * top_k, cols = args.dy.cols();
  if (choices == 0) return;
  for_float_type(args.x.dtype, "gather_weights", [&]<class T>(T) {
    for_float_type(args.dweights.dtype, "gather_weights", [&]<class W>(W) {
      by_packs<T>(wide(args.x) && wide(args.dy), [&]<int N>(std::integral_constant<int, N>) {
        dot_rows<N><<<static_cast<unsigned>(divide_up(choices, 8)), 256>>>(
            rows_of<const T>(args.x), args.rows.ptr<const int32_t>(), rows_of<const T>(args.dy),
            args.dweights.ptr<W>(), static_cast<int>(top_k), choices, cols);
      });
    });
  });
  check_launch("gather_weights");
}

const CudaKernel<SortByExpertArgs> kSort{kSortByExpert, &sort, &sort_workspace};
const CudaKernel<ExpertSlotsArgs> kExpertSlotsKernel{kExpertSlots, &expert_slots, &slots_workspace};
const CudaKernel<SpreadArgs> kSpreadKernel{kSpread, &spread};
const CudaKernel<GatherArgs> kGatherKernel{kGather, &gather};
const CudaKernel<GatherWeightsArgs> kGatherWeightsKernel{kGatherWeights, &gather_weights};

}  // namespace
}  // namespace flagscale::op
