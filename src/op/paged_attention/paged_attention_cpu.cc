// A unit is one token and one key-value head: its group of query heads reads each page once. Decode is bound by reading
// the cache; a prompt's tokens find their pages in L2.
#include "op/paged_attention/paged_attention.h"

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int kPage = static_cast<int>(kPageTokens), kVectors = kPage / F32::kLanes;
constexpr float kLowest = -1e30f;

template <class C>
void append_token(const CacheAppendArgs& args, int64_t token) {
  const AttentionShape& s = args.shape;
  const int64_t slot = args.slots.ptr<const int32_t>()[token], page = slot / kPage, place = slot % kPage;
  if (slot < 0 || page >= args.k_cache.dims[0]) return;  // a padding token
  for (int64_t h = 0; h < s.kv_heads; ++h) {
    const float* k = args.k.ptr<const float>() + token * args.k.row_stride() + h * s.head_dim;
    const float* v = args.v.ptr<const float>() + token * args.v.row_stride() + h * s.head_dim;
    C* k_page = args.k_cache.ptr<C>() + (page * s.kv_heads + h) * s.head_dim * kPage + place;
    C* v_page = args.v_cache.ptr<C>() + ((page * s.kv_heads + h) * kPage + place) * s.head_dim;
    for (int64_t i = 0; i < s.head_dim; ++i) put(k_page + i * kPage, k[i]);
    for (int64_t i = 0; i < s.head_dim; ++i) put(v_page + i, v[i]);
  }
}

void append(KernelContext& context, const CacheAppendArgs& args) {
  context.team.for_each(args.k.rows(), [&](int64_t token) {
    if (args.k_cache.dtype == DType::kBF16) append_token<BF16>(args, token);
    else append_token<float>(args, token);
  }, 4);
}

// p[kPage] = exp(scale q k - maximum) of the places [begin, end), 0 elsewhere; rescales what was summed before.
template <class C>
void page_scores(const float* q, const C* k_page, int64_t dim, float scale, int64_t begin, int64_t end, float& maximum,
                 float& sum, float* mixed, float* p) {
  F32 dot[kVectors];
  for (int j = 0; j < kVectors; ++j) dot[j] = F32::zero();
  for (int64_t i = 0; i < dim; ++i) {
    const F32 qi = F32::set(q[i]);
    for (int j = 0; j < kVectors; ++j) dot[j] = F32::fma(qi, F32::load(k_page + i * kPage + j * F32::kLanes), dot[j]);
  }
  for (int j = 0; j < kVectors; ++j) (dot[j] * F32::set(scale)).store(p + j * F32::kLanes);
  for (int64_t j = 0; j < begin; ++j) p[j] = kLowest;
  for (int64_t j = end; j < kPage; ++j) p[j] = kLowest;
  float top = maximum;
  for (int64_t j = begin; j < end; ++j) top = p[j] > top ? p[j] : top;
  const float shrink = std::exp(maximum - top);
  float total = 0;
  for (int j = 0; j < kVectors; ++j) F32::exp(F32::load(p + j * F32::kLanes) - F32::set(top)).store(p + j * F32::kLanes);
  for (int64_t j = begin; j < end; ++j) total += p[j];
  sum = sum * shrink + total;
  if (shrink != 1.f)
    for_lanes<F32>(dim, [&](int64_t i, int64_t n) { (F32::load_n(mixed + i, n) * F32::set(shrink)).store_n(mixed + i, n); });
  maximum = top;
}

template <class C>
void attend(const PagedAttentionArgs& args, int64_t token, int64_t kv) {
  const AttentionShape& s = args.shape;
  const int64_t group = s.heads / s.kv_heads, dim = s.head_dim, position = args.positions.ptr<const int32_t>()[token];
  const int32_t* table = args.block_table.ptr<const int32_t>() + args.sequence.ptr<const int32_t>()[token] * args.block_table.dims[1];
  const int64_t low = s.window > 0 && position - s.window + 1 > 0 ? position - s.window + 1 : 0;
  for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
    const float* q = args.q.ptr<const float>() + token * args.q.row_stride() + head * dim;
    float* out = args.out.ptr<float>() + token * args.out.row_stride() + head * dim;
    alignas(64) float mixed[512], p[kPage];
    for (int64_t i = 0; i < dim; ++i) mixed[i] = 0;
    float maximum = kLowest, sum = 0;
    for (int64_t block = low / kPage; block * kPage <= position; ++block) {
      const int64_t page = table[block], first = block * kPage;
      const int64_t begin = low > first ? low - first : 0, end = position + 1 - first < kPage ? position + 1 - first : kPage;
      const C* k_page = args.k_cache.ptr<const C>() + (page * s.kv_heads + kv) * dim * kPage;
      const C* v_page = args.v_cache.ptr<const C>() + (page * s.kv_heads + kv) * kPage * dim;
      page_scores(q, k_page, dim, s.scale, begin, end, maximum, sum, mixed, p);
      for_lanes<F32>(dim, [&](int64_t i, int64_t n) {
        F32 m = F32::load_n(mixed + i, n);
        for (int64_t j = begin; j < end; ++j) m = F32::fma(F32::set(p[j]), F32::load_n(v_page + j * dim + i, n), m);
        m.store_n(mixed + i, n);
      });
    }
    const F32 inverse = F32::set(1.f / sum);
    for_lanes<F32>(dim, [&](int64_t i, int64_t n) { (F32::load_n(mixed + i, n) * inverse).store_n(out + i, n); });
  }
}

void run(KernelContext& context, const PagedAttentionArgs& args) {
  const int64_t kv_heads = args.shape.kv_heads;
  context.team.for_each(args.q.rows() * kv_heads, [&](int64_t unit) {
    if (args.k_cache.dtype == DType::kBF16) attend<BF16>(args, unit / kv_heads, unit % kv_heads);
    else attend<float>(args, unit / kv_heads, unit % kv_heads);
  });
}

const CpuKernel<CacheAppendArgs> kAppendKernel{kCacheAppend, kIsa, &append};
const CpuKernel<PagedAttentionArgs> kAttendKernel{kPagedAttention, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
