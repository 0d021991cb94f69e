// Bound by memory: q, k and v are read once, the rotated q and the cache's slots written once. A key lands in
// its page as a column, so its head_dim stores go to different lines; the tokens of a prefill chunk fill
// those lines in turn.
#include "base/check.h"
#include "op/paged_attention/page_products.h"
#include "op/paged_attention/paged_attention.h"
#include "op/rope/rotate.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

// Elements of a page's head from x, and the scale of an int8 one, to be multiplied with them.
template <class S, class C>
S scale_for(const S*, int64_t, C) {
  return 1;
}
template <class S>
S scale_for(const S* x, int64_t size, int8_t) {
  S most = 0;
  for (int64_t i = 0; i < size; ++i) {
    const S a = x[i] < 0 ? -x[i] : x[i];
    most = a > most ? a : most;
  }
  return most / 127;
}
template <class S, class C>
void put_scaled(C* p, S x, S) {
  put(p, x);
}
template <class S>
void put_scaled(int8_t* p, S x, S inverse) {
  *p = static_cast<int8_t>(__builtin_rint(static_cast<double>(x * inverse)));  // to even
}

// x[i] to head[first + i * step].
template <class S, class C>
void put_line(const S* x, int64_t size, C* head, int64_t first, int64_t step, int64_t elements,
              int64_t token) {
  const S scale = scale_for(x, size, C{}), inverse = scale > S(1e-30) ? 1 / scale : 0;
  for (int64_t i = 0; i < size; ++i) put_scaled(head + first + i * step, x[i], inverse);
  if constexpr (kScaled<C>) reinterpret_cast<float*>(head + elements)[token] = static_cast<float>(scale);
}

// One token: q into rotated, k into its column and v into its row of the page, C being the cache's type.
template <class V, class T, class C>
void append(const RopeAppendArgs& args, int64_t token) {
  using S = typename V::Scalar;
  const int64_t half = args.cos.cols(), d = 2 * half, kv_heads = args.k.cols() / d,
                pitch = (d + kPageTokens - 1) / kPageTokens * kPageTokens;
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
    const int64_t page = slot / kPageTokens, offset = slot % kPageTokens;
    const auto head_of = [&](const InOut& pages) {
      return pages.ptr<C>() + page * pages.row_stride() + head * (pages.cols() / kv_heads);
    };
    S key[512];
    rotate<V>(args.k.ptr<const T>() + token * args.k.row_stride() + head * d, key, cos, sin, half,
              args.interleaved, false);
    put_line(key, d, head_of(args.k_pages), offset, kPageTokens, d * kPageTokens, offset);
    const T* value = args.v.ptr<const T>() + token * args.v.row_stride() + head * d;
    for_lanes<V>(d, [&](int64_t i, int64_t n) { V::load_n(value + i, n).store_n(key + i, n); });
    for (int64_t i = d; i < pitch; ++i) key[i] = 0;
    put_line(key, pitch, head_of(args.v_pages), offset * pitch, 1, pitch * kPageTokens, offset);
  }
}

void run(KernelContext& context, const RopeAppendArgs& args) {
  for_float_type(args.q.dtype, [&]<class V, class T>(V, T) {
    for_cache_type<V>(args.k_pages.dtype, [&]<class C>(C) {
      context.team.for_each(args.q.rows(), [&](int64_t token) { append<V, T, C>(args, token); }, 4);
    });
  });
}

const CpuKernel<RopeAppendArgs> kKernel{kRopeAppend, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
