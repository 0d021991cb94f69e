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

// One head of one token a block: of q, of k, then of v.
template <class T, class C>
__global__ void append_heads(Append<T, C> a) {
  let_next_start();
  wait_for_previous();
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
    C* to = a.v_pages[page] + (head * kPageTokens + offset) * a.pitch;
    for (int64_t i = threadIdx.x; i < a.pitch; i += blockDim.x)
      put(to + i, i < d ? as_float(a.v[token][head * d + i]) : 0.f);
    return;
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
      C* column = a.k_pages[page] + head * d * kPageTokens + offset;
      put(column + first * kPageTokens, p * c - r * s);
      put(column + second * kPageTokens, r * c + p * s);
    }
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
