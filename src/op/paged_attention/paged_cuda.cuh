#pragma once
// What the two kinds of paged attention on a GPU share: the arguments in a kernel, and who sees what.

#include "kernel/cuda/cuda.cuh"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::op {

using cuda::as_float;
__device__ inline float as_float(int8_t x) { return x; }  // to be scaled

template <class C>  // a cache whose tokens have scales
constexpr bool kScaled = sizeof(C) == 1;
template <class Body>  // body(value of the cache's type)
void for_cache_type(DType dtype, const char* op, Body&& body) {
  if (dtype == DType::kI8) return body(int8_t{});
  cuda::for_float_type(dtype, op, body);
}

template <class T, class C>
struct Paged {
  cuda::Rows<const T> q;
  cuda::Rows<const C> k_pages, v_pages;
  cuda::Rows<T> out;
  cuda::Rows<const int32_t> tables;
  const int32_t *cu_seqlens, *context_lens;
  int heads, kv_heads, head_dim, pitch;
  float scale;  // of q k^T, for powers of two
  int64_t window;

  explicit Paged(const PagedAttentionArgs& args)
      : q(cuda::rows_of<const T>(args.q)),
        k_pages(cuda::rows_of<const C>(args.k_pages)),
        v_pages(cuda::rows_of<const C>(args.v_pages)),
        out(cuda::rows_of<T>(args.out)),
        tables(cuda::rows_of<const int32_t>(args.block_tables)),
        cu_seqlens(args.cu_seqlens.ptr<const int32_t>()),
        context_lens(args.context_lens.ptr<const int32_t>()),
        heads(args.shape.heads),
        kv_heads(args.shape.kv_heads),
        head_dim(args.shape.head_dim),
        pitch((args.shape.head_dim + 15) / 16 * 16),
        scale(args.shape.scale * 1.4426950408889634f),
        window(args.shape.window) {}

  __device__ int queries(int64_t s) const { return cu_seqlens[s + 1] - cu_seqlens[s]; }
  // The first key that a query at `position` sees.
  __device__ int64_t first_key(int64_t position) const {
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
};

// Sequences in the step, and bounds on one: known to the host, or the capacity.
inline int64_t sequences_of(const PagedAttentionArgs& args) {
  return args.sequences ? *args.sequences : args.context_lens.dims[0];
}
inline int64_t longest_context(const PagedAttentionArgs& args) {
  return args.longest.context ? *args.longest.context : args.block_tables.dim(1) * kPageTokens;
}
inline int64_t most_queries(const PagedAttentionArgs& args) {
  return args.longest.queries ? *args.longest.queries : args.q.rows();
}

// Tensor cores: bf16 throughout, heads and groups of sizes that their tiles take. The choice depends on the
// model alone, so that every row of it is computed in one way.
bool has_tiles(const PagedAttentionArgs& args);
void attend_by_tiles(KernelContext& context, const PagedAttentionArgs& args);
size_t tiles_workspace(const PagedAttentionArgs& args);

}  // namespace flagscale::op
