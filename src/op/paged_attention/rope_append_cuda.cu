// Bound by memory: q, k and v are read once, the rotated q and the cache's slots written once. A warp has
// some heads of q of a token, so that many reads are under way, or one of k or v.
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kMostDim = 512;  // as the op's
constexpr int kWarps = 4;
constexpr int64_t kFewTokens =
    32;  // up to them a warp has one head of q, as there are multiprocessors for all

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

// x[0, size) of the warp's lanes to its line: in int8 by max |x| / 127, as on a CPU.
template <class C>
__device__ void put_line(const Line<C>& to, const float* x, int size, int lane) {
  __syncwarp();
  if constexpr (!kScaled<C>) {
    for (int i = lane; i < size; i += 32) put(to.first + i * to.step, x[i]);
  } else {
    float most = 0;
    for (int i = lane; i < size; i += 32) most = fmaxf(most, fabsf(x[i]));
#pragma unroll
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    const float scale = __fdiv_rn(most, 127.f), inverse = scale > 1e-30f ? __frcp_rn(scale) : 0;
    for (int i = lane; i < size; i += 32)
      to.first[i * to.step] = static_cast<int8_t>(__float2int_rn(x[i] * inverse));
    if (lane == 0) *to.scale = scale;
  }
}

// Where cos and sin of a token begin.
template <class T, class C>
__device__ int64_t turn_of(const Append<T, C>& a, int64_t token) {
  const int64_t wanted = a.positions[token];
  return (wanted < 0 ? 0 : wanted > a.last ? a.last : wanted) * a.half;
}
// The two numbers of a head that turn together.
template <class T, class C>
__device__ int64_t first_of(const Append<T, C>& a, int64_t j) {
  return a.interleaved ? 2 * j : j;
}
template <class T, class C>
__device__ int64_t second_of(const Append<T, C>& a, int64_t j) {
  return a.interleaved ? 2 * j + 1 : j + a.half;
}

template <int kOfQ, class T, class C>  // kOfQ heads from `head` on
__device__ void rotate_heads(const Append<T, C>& a, int64_t token, int64_t head, int lane) {
  const int64_t turn = turn_of(a, token), d = 2 * a.half;
  const T* x = a.q[token] + head * d;
  T* y = a.rotated[token] + head * d;
  for (int64_t j = lane; j < a.half; j += 32) {
    const int64_t first = first_of(a, j), second = second_of(a, j);
    const float c = a.cos[turn + j], s = a.sin[turn + j];
    float p[kOfQ], r[kOfQ];
#pragma unroll
    for (int i = 0; i < kOfQ; ++i) {
      const int64_t at = head + i < a.heads ? i * d : 0;
      p[i] = as_float(x[at + first]), r[i] = as_float(x[at + second]);
    }
#pragma unroll
    for (int i = 0; i < kOfQ; ++i) {
      if (head + i >= a.heads) break;
      put(y + i * d + first, p[i] * c - r[i] * s);
      put(y + i * d + second, r[i] * c + p[i] * s);
    }
  }
}

template <int kOfQ, class T, class C>
__global__ void __launch_bounds__(kWarps * 32) append_heads(Append<T, C> a) {
  let_next_start();
  wait_for_previous();
  __shared__ float lines[kWarps][kMostDim];
  constexpr int64_t kScales = kScaled<C> ? int64_t{sizeof(float)} * kPageTokens : 0;  // elements of a head
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t token = blockIdx.x, of_q = (a.heads + kOfQ - 1) / kOfQ;
  int64_t head = int64_t{blockIdx.y} * kWarps + warp;
  if (head < of_q) return rotate_heads<kOfQ>(a, token, head * kOfQ, lane);
  head -= of_q;
  const int64_t d = 2 * a.half, slot = a.slots[token], page = slot / kPageTokens, offset = slot % kPageTokens;
  if (slot < 0 || head >= 2 * a.kv_heads) return;
  float* line = lines[warp];
  if (head >= a.kv_heads) {
    head -= a.kv_heads;
    C* to = a.v_pages[page] + head * (kPageTokens * a.pitch + kScales);
    for (int64_t i = lane; i < a.pitch; i += 32) line[i] = i < d ? as_float(a.v[token][head * d + i]) : 0.f;
    return put_line(Line<C>{to + offset * a.pitch, 1, scale_at(to, kPageTokens * a.pitch, offset)}, line,
                    static_cast<int>(a.pitch), lane);
  }
  const int64_t turn = turn_of(a, token);
  const T* x = a.k[token] + head * d;
  for (int64_t j = lane; j < a.half; j += 32) {
    const int64_t first = first_of(a, j), second = second_of(a, j);
    const float c = a.cos[turn + j], s = a.sin[turn + j], p = as_float(x[first]), r = as_float(x[second]);
    line[first] = p * c - r * s;
    line[second] = r * c + p * s;
  }
  C* to = a.k_pages[page] + head * (d * kPageTokens + kScales);
  put_line(Line<C>{to + offset, kPageTokens, scale_at(to, d * kPageTokens, offset)}, line,
           static_cast<int>(d), lane);
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
      const auto launch = [&]<int kOfQ>(std::integral_constant<int, kOfQ>) {
        const int64_t warps = divide_up(a.heads, kOfQ) + 2 * a.kv_heads;
        launch_early(append_heads<kOfQ, T, C>,
                     dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(divide_up(warps, kWarps))),
                     kWarps * 32, 0, a);
      };
      tokens <= kFewTokens ? launch(std::integral_constant<int, 1>{})
                           : launch(std::integral_constant<int, 8>{});
    });
  });
  check_launch("rope_append");
}

const CudaKernel<RopeAppendArgs> kKernel{kRopeAppend, &run};

}  // namespace
}  // namespace flagscale::op
