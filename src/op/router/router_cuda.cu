// A warp a token: its numbers, some 8 to 256, lie in shared memory, and the highest is found top_k times.
#include "kernel/cuda/column_sums.cuh"
#include "op/router/router.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

// What a warp keeps of a token.
struct Token {
  float *scores, *ranked, *groups;  // [experts] each; ranked: with bias
  int* chosen;                      // [experts]
  uint8_t *taken, *kept;            // [experts] each

  static constexpr int kBytes = 3 * sizeof(float) + sizeof(int) + 2;  // an expert
  __device__ Token(uint8_t* memory, int experts) {
    scores = reinterpret_cast<float*>(memory), ranked = scores + experts, groups = ranked + experts;
    chosen = reinterpret_cast<int*>(groups + experts);
    taken = reinterpret_cast<uint8_t*>(chosen + experts), kept = taken + experts;
  }
};

size_t token_bytes(int64_t experts) {
  return static_cast<size_t>(divide_up(experts * Token::kBytes, 16) * 16);
}
int warps_for(int64_t experts) { return experts <= 512 ? 4 : 2; }

__device__ int lane_of() { return static_cast<int>(threadIdx.x) % 32; }

// sum of exp(x - highest) over a row, by a warp.
__device__ float exponentials(const float* x, int n, float& highest) {
  highest = -INFINITY;
  for (int i = lane_of(); i < n; i += 32) highest = fmaxf(highest, x[i]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, step));
  float sum = 0;
  for (int i = lane_of(); i < n; i += 32) sum += expf(x[i] - highest);
  return warp_sum(sum);
}

__device__ void score_row(RouterScore score, const float* x, int n, float* to) {
  if (score == RouterScore::kSigmoid) {
    for (int i = lane_of(); i < n; i += 32) to[i] = 1.f / (1.f + expf(-x[i]));
    return;
  }
  float highest;
  const float sum = exponentials(x, n, highest);
  for (int i = lane_of(); i < n; i += 32) to[i] = expf(x[i] - highest) / sum;
}

// The highest of those not taken, on every lane; the first of equals and where nothing compares (NaN).
__device__ int highest_of(const float* x, int n, const uint8_t* taken) {
  int best = -1;
  float value = 0;
  for (int i = lane_of(); i < n; i += 32)
    if (!taken[i] && (best < 0 || x[i] > value)) best = i, value = x[i];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const int other = __shfl_down_sync(0xffffffffu, best, step);
    const float its = __shfl_down_sync(0xffffffffu, value, step);
    if (other >= 0 && (best < 0 || its > value || (!(value > its) && other < best)))
      best = other, value = its;
  }
  return __shfl_sync(0xffffffffu, best, 0);
}

// Of at most kInRegisters numbers, number i by lane i % 32. As unsigned numbers they compare as they do; a
// NaN is below all others, and one that is taken below that.
constexpr int kInRegisters = 256;
__device__ void take_highest_at_once(const float* x, int n, const uint8_t* taken, int times, int* chosen) {
  constexpr int kEach = kInRegisters / 32;
  unsigned key[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = i * 32 + lane_of();
    key[i] = 0;
    if (at >= n || taken[at]) continue;
    const float value = x[at] + 0.f;  // of -0 too
    const unsigned bits = __float_as_uint(value);
    key[i] = value != value ? 1 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }
  for (int j = 0; j < times; ++j) {
    unsigned own = 0, at = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (key[i] > own) own = key[i], at = i * 32 + lane_of();
    const unsigned highest = __reduce_max_sync(0xffffffffu, own);
    const unsigned best = __reduce_min_sync(0xffffffffu, own == highest ? at : ~0u);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (best == i * 32 + lane_of()) key[i] = 0;
    if (lane_of() == 0) chosen[j] = static_cast<int>(best);
  }
  __syncwarp();
}

__device__ void take_highest(const float* x, int n, uint8_t* taken, int times, int* chosen) {
  for (int j = 0; j < times; ++j) {
    const int best = highest_of(x, n, taken);
    __syncwarp();
    if (lane_of() == 0) {
      taken[best] = 1;
      if (chosen) chosen[j] = best;
    }
    __syncwarp();
  }
}

// The sum of a group's two highest numbers.
__device__ float two_highest(const float* x, int n) {
  float first = x[0], second = 0;
  for (int i = 1; i < n; ++i) {
    if (i == 1 || x[i] > second) second = x[i];
    if (second > first) {
      const float swapped = first;
      first = second, second = swapped;
    }
  }
  return first + second;
}

__device__ void leave_groups_out(const RouterSpec& spec, const Token& t, int n) {
  const int size = n / spec.groups;
  for (int g = lane_of(); g < spec.groups; g += 32)
    t.groups[g] = two_highest(t.ranked + g * size, size), t.kept[g] = 0;
  __syncwarp();
  take_highest(t.groups, spec.groups, t.kept, spec.kept_groups, nullptr);
  for (int i = lane_of(); i < n; i += 32) t.taken[i] = !t.kept[i / size];
  __syncwarp();
}

__device__ float total_of(const RouterSpec& spec, const float* scores, const int* experts) {
  if (!spec.normalise) return 1;
  float sum = spec.floor;
  for (int j = 0; j < spec.top_k; ++j) sum += scores[experts[j]];
  return sum;
}

__global__ void route_tokens(Rows<const float> logits, const float* bias, float* scores, int* experts,
                             float* weights, RouterSpec spec, int64_t tokens, int n, int bytes) {
  extern __shared__ uint8_t memory[];
  let_next_start();
  wait_for_previous();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = lane_of();
  const int64_t token = int64_t{blockIdx.x} * (blockDim.x / 32) + warp;
  if (token >= tokens) return;
  const Token t(memory + warp * bytes, n);
  score_row(spec.score, logits[token], n, t.scores);
  for (int i = lane; i < n; i += 32) {
    scores[token * n + i] = t.scores[i];
    t.ranked[i] = t.scores[i] + (bias ? bias[i] : 0.f);
    t.taken[i] = 0;
  }
  __syncwarp();
  if (spec.groups > 1) leave_groups_out(spec, t, n);
  if (n <= kInRegisters)
    take_highest_at_once(t.ranked, n, t.taken, spec.top_k, t.chosen);
  else
    take_highest(t.ranked, n, t.taken, spec.top_k, t.chosen);
  const float total = total_of(spec, t.scores, t.chosen);
  for (int j = lane; j < spec.top_k; j += 32) {
    experts[token * spec.top_k + j] = t.chosen[j];
    weights[token * spec.top_k + j] = spec.scale * (t.scores[t.chosen[j]] / total);
  }
}

void only_fp32(DType dtype) {
  if (dtype != DType::kF32) no_kernel_for("router", dtype);
}

void forward(KernelContext&, const RouterArgs& args) {
  only_fp32(args.logits.dtype);
  const int64_t tokens = args.logits.rows(), n = args.logits.cols();
  if (tokens == 0) return;
  const int warps = warps_for(n);
  const size_t bytes = token_bytes(n);
  launch_early(route_tokens, dim3(static_cast<unsigned>(divide_up(tokens, warps))), warps * 32,
               bytes * static_cast<size_t>(warps), rows_of<const float>(args.logits),
               args.bias.defined() ? args.bias.ptr<const float>() : nullptr, args.scores.ptr<float>(),
               args.experts.ptr<int32_t>(), args.weights.ptr<float>(), args.spec, tokens, static_cast<int>(n),
               static_cast<int>(bytes));
  check_launch("router");
}

constexpr int kChunk = 64;  // tokens whose statistics a block adds up

__global__ void add_tokens(Rows<const float> logits, const float* scores, const int* experts, float* partials,
                           int64_t tokens, int n, int top_k) {
  __shared__ float squares[kChunk];
  const int64_t begin = int64_t{blockIdx.x} * kChunk;
  const int rows = static_cast<int>(tokens - begin < kChunk ? tokens - begin : kChunk);
  for (int row = static_cast<int>(threadIdx.x) / 32; row < rows; row += static_cast<int>(blockDim.x) / 32) {
    float highest;
    const float sum = exponentials(logits[begin + row], n, highest), lse = highest + logf(sum);
    if (lane_of() == 0) squares[row] = lse * lse;
  }
  float* const to = partials + int64_t{blockIdx.x} * (2 * n + 1);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    int count = 0;
    float sum = 0;
    for (int row = 0; row < rows; ++row) {
      for (int j = 0; j < top_k; ++j) count += experts[(begin + row) * top_k + j] == i;
      sum += scores[(begin + row) * n + i];
    }
    to[i] = static_cast<float>(count), to[n + i] = sum;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0;
  for (int row = 0; row < rows; ++row) sum += squares[row];
  to[2 * n] = sum;
}

void statistics(KernelContext& context, const RouterStatisticsArgs& args) {
  only_fp32(args.logits.dtype);
  const int64_t tokens = args.logits.rows(), n = args.logits.cols(), chunks = divide_up(tokens, kChunk);
  auto* const partials = reinterpret_cast<float*>(context.workspace.data());
  if (chunks > 0)
    add_tokens<<<static_cast<unsigned>(chunks), 256>>>(
        rows_of<const float>(args.logits), args.scores.ptr<const float>(), args.experts.ptr<const int32_t>(),
        partials, tokens, static_cast<int>(n), static_cast<int>(args.experts.cols()));
  add_columns("router_statistics", partials, args.statistics, 2 * n + 1, chunks, false);
  check_launch("router_statistics");
}

size_t statistics_workspace(const RouterStatisticsArgs& args, int) {
  return static_cast<size_t>(divide_up(args.logits.dims[0], kChunk) * (2 * args.logits.cols() + 1)) *
         sizeof(float);
}

struct Backward {
  Rows<const float> logits;
  const float *scores, *dweights, *statistics;  // the last two: or null
  const int* experts;
  Rows<float> dlogits;
  RouterSpec spec;
  int64_t tokens, layers, layer, stride;  // of the statistics; layer: or -1, all
  int n;
  float factor, z;  // of how often an expert was chosen; of logsumexp
};

// The balance loss's gradient for the scores of each expert.
__device__ void balance_gradient(const Backward& a, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < a.n; i += static_cast<int>(blockDim.x)) {
    float chosen = 0;
    if (a.statistics)
      for (int64_t l = 0; l < a.layers; ++l)
        if (a.layer < 0 || l == a.layer) chosen += a.statistics[l * a.stride + i];
    to[i] = a.factor * chosen;
  }
}

__device__ void add_weights_gradient(const Backward& a, int64_t token, float* ds) {
  const int k = a.spec.top_k;
  const float *scores = a.scores + token * a.n, *dw = a.dweights + token * k;
  const int* experts = a.experts + token * k;
  const float total = total_of(a.spec, scores, experts);
  float mean = 0;  // w = scale s / total, so dw/ds has a share of every chosen one where they are normalised
  if (a.spec.normalise)
    for (int j = 0; j < k; ++j) mean += dw[j] * scores[experts[j]] / total;
  for (int j = lane_of(); j < k; j += 32) ds[experts[j]] += a.spec.scale / total * (dw[j] - mean);
}

__global__ void route_backward(const Backward a) {
  extern __shared__ float numbers[];  // the balance's gradient, then ds of each warp's token
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  balance_gradient(a, numbers);
  __syncthreads();
  float* const ds = numbers + (warp + 1) * a.n;
  for (int64_t token = int64_t{blockIdx.x} * warps + warp; token < a.tokens;
       token += int64_t{gridDim.x} * warps) {
    const float* const scores = a.scores + token * a.n;
    float* const dlogits = a.dlogits[token];
    __syncwarp();
    for (int i = lane_of(); i < a.n; i += 32) ds[i] = numbers[i];
    __syncwarp();
    if (a.dweights) add_weights_gradient(a, token, ds);
    __syncwarp();
    if (a.spec.score == RouterScore::kSigmoid) {
      for (int i = lane_of(); i < a.n; i += 32) dlogits[i] = ds[i] * scores[i] * (1.f - scores[i]);
      continue;
    }
    float dot = 0, pull = 0;
    for (int i = lane_of(); i < a.n; i += 32) dot = fmaf(ds[i], scores[i], dot);
    dot = warp_sum(dot);
    if (a.z != 0) {
      float highest;
      const float sum = exponentials(a.logits[token], a.n, highest);
      pull = a.z * (highest + logf(sum));
    }
    for (int i = lane_of(); i < a.n; i += 32) dlogits[i] = scores[i] * (ds[i] - dot + pull);
  }
}

void backward(KernelContext&, const RouterBackwardArgs& args) {
  only_fp32(args.logits.dtype);
  const int64_t tokens = args.logits.rows(), n = args.logits.cols();
  if (tokens == 0) return;
  const bool losses = args.statistics.defined();
  const auto optional = [](const TensorView& view) {
    return view.defined() ? view.ptr<const float>() : nullptr;
  };
  const float scale = args.scale ? *args.scale : 1.f, rows = static_cast<float>(tokens),
              all = rows * static_cast<float>(losses ? args.statistics.dims[0] : 1);
  const float factor = scale * args.balance * static_cast<float>(n) /
                       (args.across_layers ? all * all : rows * rows * static_cast<float>(args.spec.top_k));
  const Backward a{rows_of<const float>(args.logits),
                   args.scores.ptr<const float>(),
                   optional(args.dweights),
                   optional(args.statistics),
                   args.experts.ptr<const int32_t>(),
                   rows_of<float>(args.dlogits),
                   args.spec,
                   tokens,
                   losses ? args.statistics.dims[0] : 0,
                   args.across_layers ? -1 : args.layer,
                   losses ? args.statistics.row_stride() : 0,
                   static_cast<int>(n),
                   losses ? factor : 0.f,
                   losses ? 2 * scale * args.z / rows : 0.f};
  const int warps = warps_for(n);
  const int64_t blocks = divide_up(tokens, warps), most = 4096;
  route_backward<<<static_cast<unsigned>(blocks < most ? blocks : most), warps * 32,
                   static_cast<size_t>(n * (warps + 1)) * sizeof(float)>>>(a);
  check_launch("router_backward");
}

const CudaKernel<RouterArgs> kForward{kRouter, &forward};
const CudaKernel<RouterStatisticsArgs> kStatistics{kRouterStatistics, &statistics, &statistics_workspace};
const CudaKernel<RouterBackwardArgs> kBackward{kRouterBackward, &backward};

}  // namespace
}  // namespace flagscale::op
