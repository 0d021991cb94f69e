// Plain flash attention: fp32 products on the ordinary cores from tiles in shared memory, in fixed order and
// without atomic sums, so runs repeat bit for bit. Scores are formed again twice in the backward pass, once
// for dq and once for dk and dv. Bound by arithmetic, at a small share of what tensor cores give.
#include <algorithm>
#include <initializer_list>

#include "op/attention/attention_tiles_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 128;
// Queries or keys of a tile, where a block owns queries: of heads above 128 fewer where shared memory is
// small. Where it owns keys, fewer are faster for those heads anyway.
constexpr int tile_of_queries(int d, bool roomy) { return d <= 128 || roomy ? 32 : 16; }
constexpr int tile_of_keys(int d) { return d <= 128 ? 32 : 16; }

// to[kTile][D + 1] from rows [first, first + kTile) of a sequence, columns of one head; zero outside.
template <int D, int kTile, class T>
__device__ void read_tile(Rows<const T> from, Tile tile, int64_t first, int64_t column, int dim, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * D; i += kThreads) {
    const int row = i / D, d = i % D;
    to[row * (D + 1) + d] =
        first + row < tile.length && d < dim ? as_float(from[tile.begin + first + row][column + d]) : 0.f;
  }
}

template <int D>
__device__ float dot(const float* a, const float* b) {
  float sum = 0;
#pragma unroll 8
  for (int d = 0; d < D; ++d) sum = fmaf(a[d], b[d], sum);
  return sum;
}

template <int kPerRow>
__device__ float row_max(float x) {  // over the threads of a row
  for (int step = kPerRow / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
template <int kPerRow>
__device__ float row_sum(float x) {
  for (int step = kPerRow / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

template <int D, class T>
__global__ void __launch_bounds__(kThreads) attend(ForwardView<T> a) {
  extern __shared__ float memory[];
  constexpr int kTile = tile_of_queries(D, kRoomy), kPerRow = kThreads / kTile;
  float *q = memory, *k = q + kTile * (D + 1), *v = k + kTile * (D + 1), *p = v + kTile * (D + 1);
  const Tile tile = tile_of<kTile>(a.sequences, blockIdx.x);
  if (tile.length == 0) return;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  const int64_t kv = int64_t{head / (a.shape.heads / a.shape.kv_heads)} * dim;
  const int row = static_cast<int>(threadIdx.x) / kPerRow, lane = static_cast<int>(threadIdx.x) % kPerRow;
  const int64_t query = tile.first + row;
  read_tile<D, kTile>(a.q, tile, tile.first, int64_t{head} * dim, dim, q);

  float mixed[D / kPerRow] = {}, maximum = -INFINITY, sum = 0;
  for (int64_t k0 = first_key_tile<kTile>(tile.first, a.shape);
       k0 <= tile.first + kTile - 1 && k0 < tile.length; k0 += kTile) {
    __syncthreads();
    read_tile<D, kTile>(a.k, tile, k0, kv, dim, k);
    read_tile<D, kTile>(a.v, tile, k0, kv, dim, v);
    __syncthreads();
    float scores[kTile / kPerRow], high = maximum;
#pragma unroll
    for (int i = 0; i < kTile / kPerRow; ++i) {
      const int key = i * kPerRow + lane;
      const bool seen = sees(query, k0 + key, a.shape) && k0 + key < tile.length;
      scores[i] = seen ? a.shape.scale * dot<D>(q + row * (D + 1), k + key * (D + 1)) : -INFINITY;
      high = fmaxf(high, scores[i]);
    }
    high = row_max<kPerRow>(high);
    const float shrink = maximum == -INFINITY ? 0.f : expf(maximum - high);
    sum *= shrink;
#pragma unroll
    for (int i = 0; i < kTile / kPerRow; ++i) {
      const float e = scores[i] == -INFINITY ? 0.f : expf(scores[i] - high);
      p[row * (kTile + 1) + i * kPerRow + lane] = e;
      sum += e;
    }
    maximum = high;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < D / kPerRow; ++j) {
      float x = mixed[j] * shrink;
#pragma unroll 4
      for (int key = 0; key < kTile; ++key)
        x = fmaf(p[row * (kTile + 1) + key], v[key * (D + 1) + j * kPerRow + lane], x);
      mixed[j] = x;
    }
  }
  sum = row_sum<kPerRow>(sum);
  if (query >= tile.length) return;
  T* out = a.out[tile.begin + query] + int64_t{head} * dim;
  for (int j = 0; j < D / kPerRow; ++j)
    if (j * kPerRow + lane < dim) put(out + j * kPerRow + lane, mixed[j] / sum);
  if (lane == 0) a.lse[int64_t{head} * a.tokens + tile.begin + query] = maximum + logf(sum);
}

template <class T>
__global__ void sum_deltas(BackwardView<T> a) {
  const int64_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  float sum = 0;
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += 32)
    sum = fmaf(as_float(a.out[token][head * dim + d]), as_float(a.dout[token][head * dim + d]), sum);
  sum = warp_sum(sum);
  if (threadIdx.x == 0) a.delta[int64_t{head} * a.tokens + token] = sum;
}

// The same with kLanes lanes for a head of bf16, eight numbers each.
template <int kLanes>
__global__ void sum_wide_deltas(BackwardView<bf16> a, int64_t tokens) {
  const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes, token = at / a.shape.heads;
  const int head = static_cast<int>(at % a.shape.heads), dim = a.shape.head_dim,
            d = static_cast<int>(threadIdx.x) % kLanes * 8;
  float sum = 0;
  if (token < tokens && d < dim) {
    float out[8], dout[8];
    load(a.out[token] + head * dim + d, out);
    load(a.dout[token] + head * dim + d, dout);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(out[i], dout[i], sum);
  }
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (token < tokens && d == 0) a.delta[int64_t{head} * a.tokens + token] = sum;
}

template <int kLanes>
void launch_wide_deltas(const BackwardView<bf16>& view, int64_t tokens) {
  constexpr int kBlock = 256;
  const int64_t blocks = divide_up(tokens * view.shape.heads * kLanes, kBlock);
  sum_wide_deltas<kLanes><<<static_cast<unsigned>(blocks), kBlock>>>(view, tokens);
}

// The probability of a pair and the gradient of its score, from tiles in shared memory.
template <int D, class T>
__device__ void pair(const BackwardView<T>& a, Tile tile, int head, int64_t query, int64_t key,
                     const float* q, const float* k, const float* dout, const float* v, float& p, float& ds) {
  p = ds = 0;
  if (query >= tile.length || key >= tile.length || !sees(query, key, a.shape)) return;
  const int64_t at = int64_t{head} * a.tokens + tile.begin + query;
  p = expf(a.shape.scale * dot<D>(q, k) - a.lse[at]);
  ds = p * (dot<D>(dout, v) - a.delta[at]) * a.shape.scale;
}

template <int D, class T>
__global__ void __launch_bounds__(kThreads) backward_of_queries(BackwardView<T> a) {
  extern __shared__ float memory[];
  constexpr int kPitch = D + 1, kTile = tile_of_queries(D, kRoomy), kPerRow = kThreads / kTile;
  float *q = memory, *dout = q + kTile * kPitch, *k = dout + kTile * kPitch, *v = k + kTile * kPitch,
        *scores = v + kTile * kPitch;
  const Tile tile = tile_of<kTile>(a.sequences, blockIdx.x);
  if (tile.length == 0) return;
  const int head = static_cast<int>(blockIdx.y), dim = a.shape.head_dim;
  const int64_t kv = int64_t{head / (a.shape.heads / a.shape.kv_heads)} * dim;
  const int row = static_cast<int>(threadIdx.x) / kPerRow, lane = static_cast<int>(threadIdx.x) % kPerRow;
  const int64_t query = tile.first + row;
  read_tile<D, kTile>(a.q, tile, tile.first, int64_t{head} * dim, dim, q);
  read_tile<D, kTile>(a.dout, tile, tile.first, int64_t{head} * dim, dim, dout);
  float dq[D / kPerRow] = {};
  for (int64_t k0 = first_key_tile<kTile>(tile.first, a.shape);
       k0 <= tile.first + kTile - 1 && k0 < tile.length; k0 += kTile) {
    __syncthreads();
    read_tile<D, kTile>(a.k, tile, k0, kv, dim, k);
    read_tile<D, kTile>(a.v, tile, k0, kv, dim, v);
    __syncthreads();
    for (int i = lane; i < kTile; i += kPerRow) {
      float p, ds;
      pair<D>(a, tile, head, query, k0 + i, q + row * kPitch, k + i * kPitch, dout + row * kPitch,
              v + i * kPitch, p, ds);
      scores[row * (kTile + 1) + i] = ds;
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < D / kPerRow; ++j) {
      float x = dq[j];
#pragma unroll 4
      for (int key = 0; key < kTile; ++key)
        x = fmaf(scores[row * (kTile + 1) + key], k[key * kPitch + j * kPerRow + lane], x);
      dq[j] = x;
    }
  }
  if (query >= tile.length) return;
  T* to = a.dq[tile.begin + query] + int64_t{head} * dim;
  for (int j = 0; j < D / kPerRow; ++j)
    if (j * kPerRow + lane < dim) put(to + j * kPerRow + lane, dq[j]);
}

template <int D, class T>
__global__ void __launch_bounds__(kThreads) backward_of_keys(BackwardView<T> a) {
  extern __shared__ float memory[];
  constexpr int kPitch = D + 1, kTile = tile_of_keys(D), kPerRow = kThreads / kTile;
  float *k = memory, *v = k + kTile * kPitch, *q = v + kTile * kPitch, *dout = q + kTile * kPitch,
        *weights = dout + kTile * kPitch, *scores = weights + kTile * (kTile + 1);
  const Tile tile = tile_of<kTile>(a.sequences, blockIdx.x);
  if (tile.length == 0) return;
  const int group = a.shape.heads / a.shape.kv_heads, dim = a.shape.head_dim;
  const int64_t kv = int64_t{blockIdx.y} * dim;
  const int row = static_cast<int>(threadIdx.x) / kPerRow, lane = static_cast<int>(threadIdx.x) % kPerRow;
  const int64_t key = tile.first + row;
  read_tile<D, kTile>(a.k, tile, tile.first, kv, dim, k);
  read_tile<D, kTile>(a.v, tile, tile.first, kv, dim, v);
  float dk[D / kPerRow] = {}, dv[D / kPerRow] = {};
  const int64_t last = a.shape.window == 0 ? tile.length : tile.first + kTile - 1 + a.shape.window;
  for (int g = 0; g < group; ++g) {
    const int head = static_cast<int>(blockIdx.y) * group + g;
    for (int64_t q0 = tile.first; q0 < tile.length && q0 < last; q0 += kTile) {
      __syncthreads();
      read_tile<D, kTile>(a.q, tile, q0, int64_t{head} * dim, dim, q);
      read_tile<D, kTile>(a.dout, tile, q0, int64_t{head} * dim, dim, dout);
      __syncthreads();
      for (int i = lane; i < kTile; i += kPerRow)
        pair<D>(a, tile, head, q0 + i, key, q + i * kPitch, k + row * kPitch, dout + i * kPitch,
                v + row * kPitch, weights[row * (kTile + 1) + i], scores[row * (kTile + 1) + i]);
      __syncwarp();
#pragma unroll
      for (int j = 0; j < D / kPerRow; ++j) {
        float x = dk[j], y = dv[j];
#pragma unroll 4
        for (int i = 0; i < kTile; ++i) {
          x = fmaf(scores[row * (kTile + 1) + i], q[i * kPitch + j * kPerRow + lane], x);
          y = fmaf(weights[row * (kTile + 1) + i], dout[i * kPitch + j * kPerRow + lane], y);
        }
        dk[j] = x;
        dv[j] = y;
      }
    }
  }
  if (key >= tile.length) return;
  T *to_k = a.dk[tile.begin + key] + kv, *to_v = a.dv[tile.begin + key] + kv;
  for (int j = 0; j < D / kPerRow; ++j) {
    const int d = j * kPerRow + lane;
    if (d >= dim) continue;
    put(to_k + d, dk[j]);
    put(to_v + d, dv[j]);
  }
}

template <class Kernel, class Args>
void launch(const char* op, Kernel kernel, dim3 grid, size_t floats, const Args& args) {
  const size_t bytes = floats * sizeof(float);
  allow_shared(op, kernel, bytes);
  kernel<<<grid, kThreads, bytes>>>(args);
  check_launch(op);
}

// body of head_dim rounded up to 64, 128 or 256.
template <class Body>
void for_head_dim(const char* op, int dim, Body&& body) {
  if (dim <= 64)
    body(std::integral_constant<int, 64>{});
  else if (dim <= 128)
    body(std::integral_constant<int, 128>{});
  else if (dim <= kMostHeadDimOnCuda)
    body(std::integral_constant<int, kMostHeadDimOnCuda>{});
  else
    too_large(op, "head_dim", dim, kMostHeadDimOnCuda);
}

unsigned most_tiles_of(int tile, int64_t tokens, int64_t sequences) {
  return tile == 32 ? most_tiles<32>(tokens, sequences) : most_tiles<16>(tokens, sequences);
}

constexpr size_t floats_of(int tile, int tiles, int squares, int d) {
  return static_cast<size_t>(tile * (tiles * (d + 1) + squares * (tile + 1)));
}
static_assert(floats_of(32, 4, 2, 128) * sizeof(float) <= kSharedAnywhere &&
              floats_of(16, 4, 2, kMostHeadDimOnCuda) * sizeof(float) <= kSharedAnywhere);

// Whether rows of this head_dim can be copied in pieces of 16 bytes and fit the tensor cores' kernels.
bool for_tensor_cores(const AttentionShape& shape, std::initializer_list<const TensorView*> views) {
  return shape.head_dim % 8 == 0 && shape.head_dim <= 128 &&
         std::all_of(views.begin(), views.end(),
                     [](const TensorView* v) { return v->dtype == DType::kBF16 && wide(*v); });
}

void forward(KernelContext& context, const AttentionArgs& args) {
  const Sequences sequences = sequences_of(args.cu_seqlens, args.sequences);
  for_float_type(args.q.dtype, "attention", [&]<class T>(T) {
    for_head_dim("attention", args.shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
      const ForwardView<T> a{rows_of<const T>(args.q),
                             rows_of<const T>(args.k),
                             rows_of<const T>(args.v),
                             rows_of<T>(args.out),
                             args.lse.ptr<float>(),
                             reinterpret_cast<unsigned*>(context.workspace.data()),
                             sequences,
                             args.lse.dims[1],
                             args.shape};
      if constexpr (std::is_same_v<T, bf16>)
        if (for_tensor_cores(args.shape, {&args.q, &args.k, &args.v, &args.out}))
          return attend_on_tensor_cores(a, args.q.dims[0]);
      const int tile = tile_of_queries(D, is_roomy(capability()));
      launch(
          "attention", attend<D, T>,
          dim3(most_tiles_of(tile, args.q.dims[0], sequences.count), static_cast<unsigned>(args.shape.heads)),
          floats_of(tile, 3, 1, D), a);
    });
  });
}

size_t delta_bytes(const AttentionBackwardArgs& args) {
  return (static_cast<size_t>(args.shape.heads * args.lse.dims[1]) * sizeof(float) + 255) / 256 * 256;
}

void backward(KernelContext& context, const AttentionBackwardArgs& args) {
  const Sequences sequences = sequences_of(args.cu_seqlens, args.sequences);
  bool turned = !args.positions.defined();
  for_float_type(args.q.dtype, "attention_backward", [&]<class T>(T) {
    for_head_dim("attention_backward", args.shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
      BackwardView<T> a{rows_of<const T>(args.q),
                        rows_of<const T>(args.k),
                        rows_of<const T>(args.v),
                        rows_of<const T>(args.out),
                        rows_of<const T>(args.dout),
                        rows_of<T>(args.dq),
                        rows_of<T>(args.dk),
                        rows_of<T>(args.dv),
                        args.lse.ptr<const float>(),
                        reinterpret_cast<float*>(context.workspace.data()),
                        context.workspace.data() + delta_bytes(args),
                        sequences,
                        args.lse.dims[1],
                        args.shape,
                        {}};
      const auto heads = static_cast<unsigned>(args.shape.heads),
                 kv_heads = static_cast<unsigned>(args.shape.kv_heads);
      if constexpr (std::is_same_v<T, bf16>)
        if (for_tensor_cores(args.shape, {&args.q, &args.k, &args.v, &args.out, &args.dout, &args.dq,
                                          &args.dk, &args.dv})) {
          if (!warpgroups_sum_deltas(a, args.q.dims[0])) {
            D <= 64 ? launch_wide_deltas<8>(a, args.q.rows()) : launch_wide_deltas<16>(a, args.q.rows());
            check_launch("attention_backward");
          }
          if (!turned && warpgroups_turn_back(args)) {
            a.rotation = {args.positions.ptr<const int32_t>(), args.cos.ptr<const float>(),
                          args.sin.ptr<const float>(), static_cast<int>(args.cos.dims[0] - 1)};
            turned = true;
          }
          return attend_backward_on_tensor_cores(a, args.q.dims[0]);
        }
      sum_deltas<<<dim3(static_cast<unsigned>(args.q.rows()), heads), 32>>>(a);
      check_launch("attention_backward");
      const auto run = [&](auto* kernel, int tile, unsigned blocks_of_tile, int squares) {
        launch("attention_backward", kernel,
               dim3(most_tiles_of(tile, args.q.dims[0], sequences.count), blocks_of_tile),
               floats_of(tile, 4, squares, D), a);
      };
      run(backward_of_queries<D, T>, tile_of_queries(D, is_roomy(capability())), heads, 1);
      run(backward_of_keys<D, T>, tile_of_keys(D), kv_heads, 2);
    });
  });
  if (!turned) turn_back(context, args);
}

size_t backward_workspace(const AttentionBackwardArgs& args, int) {
  const bool one_pass = args.q.dtype == DType::kBF16 && args.shape.head_dim <= 128;
  return delta_bytes(args) + (one_pass ? one_pass_bytes(args.shape, args.lse.dims[1]) : 0);
}

size_t forward_workspace(const AttentionArgs&, int) { return sizeof(unsigned); }

const CudaKernel<AttentionArgs> kForward{kAttention, &forward, &forward_workspace};
const CudaKernel<AttentionBackwardArgs> kBackward{kAttentionBackward, &backward, &backward_workspace};

}  // namespace
}  // namespace flagscale::op
