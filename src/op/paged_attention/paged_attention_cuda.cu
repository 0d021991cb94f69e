// Any type and size, one row and head a block: for checks in fp32. Keys are taken in chunks that begin at
// fixed positions, and a row knows of no other, so its sums have one order.
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kKeys = 128;  // of a chunk, and threads of a block
constexpr int kMostDim = 512;

// Heads of a page, whose `elements` numbers precede an int8 cache's scales, one a token.
template <class C>
__device__ const C* head_of(const C* page, int64_t head, int64_t elements) {
  return page + head * (elements + (kScaled<C> ? int64_t{sizeof(float)} * kPageTokens : 0));
}
template <class C>
__device__ float scale_of(const C* head, int64_t elements, int64_t token) {
  if constexpr (kScaled<C>)
    return reinterpret_cast<const float*>(head + elements)[token];
  else
    return 1;
}

// The sequence that owns a row.
__device__ int64_t sequence_of(const int32_t* cu_seqlens, int64_t sequences, int64_t row) {
  int64_t low = 0, high = sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (cu_seqlens[middle] <= row ? low : high) = middle;
  }
  return low;
}

__device__ float block_max(float x) {
  __shared__ float partial[32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();  // what is before it has been read
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; ++i) x = fmaxf(x, partial[i]);
  return x;
}

template <class T, class C>
__global__ void attend_rows(Paged<T, C> a, int64_t sequences) {
  __shared__ float query[kMostDim], weights[kKeys];
  const int64_t row = blockIdx.x, head = blockIdx.y, kv = head / (a.heads / a.kv_heads);
  const int64_t s = sequence_of(a.cu_seqlens, sequences, row);
  const int64_t position = a.context_lens[s] - (a.cu_seqlens[s + 1] - row), first = a.first_key(position);
  const auto thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < a.head_dim; i += kKeys) query[i] = as_float(a.q[row][head * a.head_dim + i]);
  __syncthreads();
  float most = -INFINITY, sum = 0, mixed[kMostDim / kKeys] = {};
  for (int64_t begin = first / kKeys * kKeys; begin <= position; begin += kKeys) {
    const int64_t key = begin + thread;
    float score = -INFINITY;
    if (key >= first && key <= position) {
      const int64_t elements = a.head_dim * kPageTokens, token = key % kPageTokens;
      const C* k = head_of(a.k_pages[a.tables[s][key / kPageTokens]], kv, elements);
      float dot = 0;
      for (int i = 0; i < a.head_dim; ++i) dot = fmaf(query[i], as_float(k[i * kPageTokens + token]), dot);
      score = dot * (a.scale * scale_of(k, elements, token));
    }
    const float now = fmaxf(most, block_max(score)), shrink = exp2f(most - now), weight = exp2f(score - now);
    weights[thread] = weight;
    sum = fmaf(sum, shrink, block_sum(weight));  // its barriers show every weight to all
    most = now;
    const int from = static_cast<int>(first > begin ? first - begin : 0),
              to = static_cast<int>(position - begin < kKeys ? position - begin + 1 : kKeys);
    for (int i = thread, j = 0; i < a.head_dim; i += kKeys, ++j) {
      float part = 0;
      for (int t = from; t < to; ++t) {
        const int64_t at = begin + t;
        const int64_t elements = a.pitch * kPageTokens, token = at % kPageTokens;
        const C* v = head_of(a.v_pages[a.tables[s][at / kPageTokens]], kv, elements);
        part = fmaf(weights[t] * scale_of(v, elements, token), as_float(v[token * a.pitch + i]), part);
      }
      mixed[j] = fmaf(mixed[j], shrink, part);
    }
  }
  for (int i = thread, j = 0; i < a.head_dim; i += kKeys, ++j)
    put(a.out[row] + head * a.head_dim + i, mixed[j] / sum);
}

void run(KernelContext& context, const PagedAttentionArgs& args) {
  const int64_t rows = args.q.rows(), sequences = sequences_of(args);
  if (rows == 0 || sequences == 0) return;
  if (has_tiles(args)) return attend_by_tiles(context, args);
  if (args.shape.head_dim > kMostDim) too_large("paged_attention", "head_dim", args.shape.head_dim, kMostDim);
  for_float_type(args.q.dtype, "paged_attention", [&]<class T>(T) {
    for_cache_type(args.k_pages.dtype, "paged_attention", [&]<class C>(C) {
      attend_rows<<<dim3(static_cast<unsigned>(rows), static_cast<unsigned>(args.shape.heads)), kKeys>>>(
          Paged<T, C>(args), sequences);
    });
  });
  check_launch("paged_attention");
}

size_t workspace(const PagedAttentionArgs& args, int) { return has_tiles(args) ? tiles_workspace(args) : 0; }

const CudaKernel<PagedAttentionArgs> kKernel{kPagedAttention, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
