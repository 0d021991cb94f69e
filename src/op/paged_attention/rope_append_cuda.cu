// Bound by memory: q, k and v are read once, the rotated q and the cache's slots written once.
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kMostDim = 512;  // as the op's

template <class T, class C>
struct Append {
  Rows<const T> q, k, v;
  Rows<T> rotated;
  Rows<C> k_pages, v_pages;
  const int32_t *positions, *slots;
  const float *cos, *sin;
  int64_t half, pitch, heads, kv_heads, last;  // last: row of the tables
  bool interleaved;
};

// Where a line of a token lies in a page: number i of it at first + i * step, of an int8 one its scale at
// scale.
template <class C>
struct Line {
  C* first;
  int64_t step;
  float* scale;
};

// A head's scales follow its elements.
template <class C>
__device__ float* scale_at(C* head, int64_t elements, int64_t token) {
  return kScaled<C> ? reinterpret_cast<float*>(head + elements) + token : nullptr;
}

// x[0, size) of the block's threads to its line: in int8 by max |x| / 127, as on a CPU.
template <class C>
__device__ void put_line(const Line<C>& to, const float* x, int size) {
  if constexpr (!kScaled<C>) {
    for (auto i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x))
      put(to.first + i * to.step, x[i]);
  } else {
    float most = 0;
    for (auto i = static_cast<int>(threadIdx.x) % 32; i < size; i += 32) most = fmaxf(most, fabsf(x[i]));
#pragma unroll
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    const float scale = __fdiv_rn(most, 127.f), inverse = scale > 1e-30f ? __frcp_rn(scale) : 0;
    for (auto i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x))
      to.first[i * to.step] = static_cast<int8_t>(__float2int_rn(x[i] * inverse));
    if (threadIdx.x == 0) *to.scale = scale;
  }
}

// One head of one token a block: of q, of k, then of v.
template <class T, class C>
__global__ void append_heads(Append<T, C> a) {
  let_next_start();
  wait_for_previous();
  __shared__ float line[kMostDim];
  constexpr int64_t kScales = kScaled<C> ? int64_t{sizeof(float)} * kPageTokens : 0;  // elements of a head
  const int64_t token = blockIdx.x, d = 2 * a.half, slot = a.slots[token];
  const int64_t page = slot / kPageTokens, offset = slot % kPageTokens;
  int64_t head = blockIdx.y;
  const bool is_q = head < a.heads;
  if (!is_q) {
    if (slot < 0) return;
    head -= a.heads;
  }
  if (!is_q && head >= a.kv_heads) {
    head -= a.kv_heads;
    C* to = a.v_pages[page] + head * (kPageTokens * a.pitch + kScales);
    for (int64_t i = threadIdx.x; i < a.pitch; i += blockDim.x)
      line[i] = i < d ? as_float(a.v[token][head * d + i]) : 0.f;
    __syncthreads();
    return put_line(Line<C>{to + offset * a.pitch, 1, scale_at(to, kPageTokens * a.pitch, offset)}, line,
                    static_cast<int>(a.pitch));
  }
  const int64_t wanted = a.positions[token], row = (wanted < 0        ? 0
                                                    : wanted > a.last ? a.last
                                                                      : wanted) *
                                                   a.half;
  const T* x = (is_q ? a.q[token] : a.k[token]) + head * d;
  for (int64_t j = threadIdx.x; j < a.half; j += blockDim.x) {
    const int64_t first = a.interleaved ? 2 * j : j, second = a.interleaved ? 2 * j + 1 : j + a.half;
    const float c = a.cos[row + j], s = a.sin[row + j], p = as_float(x[first]), r = as_float(x[second]);
    if (is_q) {
      put(a.rotated[token] + head * d + first, p * c - r * s);
      put(a.rotated[token] + head * d + second, r * c + p * s);
    } else {
      line[first] = p * c - r * s;
      line[second] = r * c + p * s;
    }
  }
  if (is_q) return;
  __syncthreads();
  C* to = a.k_pages[page] + head * (d * kPageTokens + kScales);
  put_line(Line<C>{to + offset, kPageTokens, scale_at(to, d * kPageTokens, offset)}, line,
           static_cast<int>(d));
}

void run(KernelContext&, const RopeAppendArgs& args) {
  const int64_t half = args.cos.cols(), d = 2 * half, tokens = args.q.rows();
  if (tokens == 0) return;
  for_float_type(args.q.dtype, "rope_append", [&]<class T>(T) {
    for_cache_type(args.k_pages.dtype, "rope_append", [&]<class C>(C) {
      const Append<T, C> a{rows_of<const T>(args.q),
                           rows_of<const T>(args.k),
                           rows_of<const T>(args.v),
                           rows_of<T>(args.rotated),
                           rows_of<C>(args.k_pages),
                           rows_of<C>(args.v_pages),
                           args.positions.ptr<const int32_t>(),
                           args.slots.ptr<const int32_t>(),
                           args.cos.ptr<const float>(),
                           args.sin.ptr<const float>(),
                           half,
                           divide_up(d, 16) * 16,
                           args.q.cols() / d,
                           args.k.cols() / d,
                           args.cos.dims[0] - 1,
                           args.interleaved};
      launch_early(append_heads<T, C>,
                   dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(a.heads + 2 * a.kv_heads)),
                   row_threads(half, 1), 0, a);
    });
  });
  check_launch("rope_append");
}

const CudaKernel<RopeAppendArgs> kKernel{kRopeAppend, &run};

}  // namespace
}  // namespace flagscale::op
