// Bound by memory: q, k and v are read once, the rotated q and the cache's slots written once. A key lands in
// its page as a column, so its head_dim stores go to different lines; the tokens of a prefill chunk fill
// those lines in turn.
#include "base/check.h"
#include "op/paged_attention/paged_attention.h"
#include "op/rope/rotate.h"

namespace flagscale::op::FLAGSCALE_ISA {
namespace {

// One token: q into rotated, k into its column and v into its row of the page, C being the cache's type.
template <class V, class T, class C>
void append(const RopeAppendArgs& args, int64_t token) {
  using S = typename V::Scalar;
  const int64_t d = args.k_pages.dim(2), half = d / 2, pitch = args.v_pages.dim(3),
                kv_heads = args.k_pages.dim(1);
  const int64_t last = args.cos.dims[0] - 1, wanted = args.positions.ptr<const int32_t>()[token];
  const int64_t row = (wanted < 0 ? 0 : wanted > last ? last : wanted) * half;
  const float *cos = args.cos.ptr<const float>() + row, *sin = args.sin.ptr<const float>() + row;
  for (int64_t i = 0; i < args.q.cols(); i += d)
    rotate<V>(args.q.ptr<const T>() + token * args.q.row_stride() + i,
              args.rotated.ptr<T>() + token * args.rotated.row_stride() + i, cos, sin, half, args.interleaved,
              false);

  const int64_t slot = args.slots.ptr<const int32_t>()[token];
  if (slot < 0) return;
  FLAGSCALE_CHECK(slot < args.k_pages.dim(0) * kPageTokens);
  for (int64_t head = 0; head < kv_heads; ++head) {
    const int64_t page = slot / kPageTokens * kv_heads + head, offset = slot % kPageTokens;
    S key[512];
    rotate<V>(args.k.ptr<const T>() + token * args.k.row_stride() + head * d, key, cos, sin, half,
              args.interleaved, false);
    C* column = args.k_pages.ptr<C>() + page * d * kPageTokens + offset;
    for (int64_t i = 0; i < d; ++i) put(column + i * kPageTokens, key[i]);
    const T* value = args.v.ptr<const T>() + token * args.v.row_stride() + head * d;
    C* line = args.v_pages.ptr<C>() + (page * kPageTokens + offset) * pitch;
    for_lanes<V>(d, [&](int64_t i, int64_t n) { V::load_n(value + i, n).store_n(line + i, n); });
    for (int64_t i = d; i < pitch; ++i) put(line + i, S(0));
  }
}

void run(KernelContext& context, const RopeAppendArgs& args) {
  for_float_type(args.q.dtype, [&]<class V, class T>(V, T) {
    for_float_type(args.k_pages.dtype, [&]<class W, class C>(W, C) {
      if constexpr (sizeof(typename V::Scalar) == sizeof(typename W::Scalar))
        context.team.for_each(args.q.rows(), [&](int64_t token) { append<V, T, C>(args, token); }, 4);
    });
  });
}

const CpuKernel<RopeAppendArgs> kKernel{kRopeAppend, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
