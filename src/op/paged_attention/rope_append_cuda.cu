// Bound by memory: q, k and v are read once, the rotated q and the cache's slots written once.
#include "kernel/cuda/cuda.cuh"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

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

// Pair j of a head: the places of its two numbers.
struct Places {
  int64_t first, second;
  __device__ Places(int64_t j, int64_t half, bool interleaved)
      : first(interleaved ? 2 * j : j), second(first + (interleaved ? 1 : half)) {}
};

// One token a block.
template <class T, class C>
__global__ void append_tokens(Append<T, C> a) {
  let_next_start();
  wait_for_previous();
  const int64_t token = blockIdx.x, d = 2 * a.half, wanted = a.positions[token], slot = a.slots[token];
  const int64_t row = (wanted < 0 ? 0 : wanted > a.last ? a.last : wanted) * a.half;
  const int64_t page = slot / kPageTokens, offset = slot % kPageTokens;
  const int64_t q_pairs = a.heads * a.half, k_pairs = a.kv_heads * a.half;
  for (int64_t i = threadIdx.x; i < q_pairs + (slot < 0 ? 0 : k_pairs); i += blockDim.x) {
    const bool is_q = i < q_pairs;
    const int64_t pair = is_q ? i : i - q_pairs, head = pair / a.half, j = pair % a.half;
    const Places at(j, a.half, a.interleaved);
    const T* x = (is_q ? a.q[token] : a.k[token]) + head * d;
    const float c = a.cos[row + j], s = a.sin[row + j];
    const float p = as_float(x[at.first]), r = as_float(x[at.second]);
    const float first = p * c - r * s, second = r * c + p * s;
    if (is_q) {
      put(a.rotated[token] + head * d + at.first, first);
      put(a.rotated[token] + head * d + at.second, second);
    } else {
      C* column = a.k_pages[page] + head * d * kPageTokens + offset;
      put(column + at.first * kPageTokens, first);
      put(column + at.second * kPageTokens, second);
    }
  }
  if (slot < 0) return;
  for (int64_t i = threadIdx.x; i < a.kv_heads * a.pitch; i += blockDim.x) {
    const int64_t head = i / a.pitch, j = i % a.pitch;
    put(a.v_pages[page] + (head * kPageTokens + offset) * a.pitch + j,
        j < d ? as_float(a.v[token][head * d + j]) : 0.f);
  }
}

void run(KernelContext&, const RopeAppendArgs& args) {
  const int64_t half = args.cos.cols(), d = 2 * half, tokens = args.q.rows();
  if (tokens == 0) return;
  for_float_type(args.q.dtype, "rope_append", [&]<class T>(T) {
    for_float_type(args.k_pages.dtype, "rope_append", [&]<class C>(C) {
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
      launch_early(append_tokens<T, C>, dim3(static_cast<unsigned>(tokens)),
                   row_threads(args.q.cols() / 2, 2), 0, a);
    });
  });
  check_launch("rope_append");
}

const CudaKernel<RopeAppendArgs> kKernel{kRopeAppend, &run};

}  // namespace
}  // namespace flagscale::op
