// Prefill of paged attention by Hopper's warpgroups: what paged_attention_mma_cuda.cu's prefill_rows does, in
// the same order, with wgmma. Bound by exponentials and products in turn; blocks on one multiprocessor fill
// each other's gaps.
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_chunks.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

struct alignas(1024) Panel {};

// Keys a line of D, values a line of tokens; both are summed over down lines.
template <int D>
struct PanelLayout {
  using Place = Panel;
  static constexpr int kValues = kKeys * D;
  static __device__ int key(int page, int d, int half) { return in_panel(d, page * 2 + half); }
  static __device__ int value(int token, int piece) {
    return piece / 8 * kKeys * kPanelColumns + in_panel(token, piece % 8);
  }
  static __device__ void show() { show_to_products(); }
};

template <int D, class C>
__global__ void __launch_bounds__(kThreads, D == 64 ? 3 : 2) prefill(Pages<C> a, int64_t sequences) {
#ifdef FLAGSCALE_HOPPER
  extern __shared__ uint8_t memory[];
  auto& staging = *reinterpret_cast<Staging<D, C, PanelLayout>*>(
      (reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  const RowsOfBlock rows(a, sequences);
  if (rows.none()) return;
  const Span of{rows.s, rows.kv, rows.lowest, rows.end};
  Fragment q[D / 16];
  rows.load<D>(q, a);
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, mix[D / 8][4] = {};
  int64_t c = rows.lowest / kKeys;
  staging.fetch(0, a, of, c);
  commit_copies();
  for (int turn = 0; c * kKeys <= rows.highest; ++c, turn ^= 1) {
    if ((c + 1) * kKeys <= rows.highest) staging.fetch(turn ^ 1, a, of, c + 1);
    commit_copies();
    const auto& chunk = staging.arrived(turn);
    float score[kKeys / 8][4], here[2] = {-INFINITY, -INFINITY};
    begin_products();
#pragma unroll
    for (int i = 0; i < D / 16; ++i) multiply<true>(score, q[i], down(chunk.k, i * 16, 0), i > 0);
    commit_products();
    wait_for_products<0>();
    settle(score);
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = n * 8 + rows.lane % 4 * 2 + j % 2;
        const bool seen = c * kKeys + key >= rows.first[j / 2] && c * kKeys + key <= rows.last[j / 2];
        score[n][j] = seen ? staging.scored(turn, key, score[n][j], a.scale) : -INFINITY;
        here[j / 2] = fmaxf(here[j / 2], score[n][j]);
      }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 1));
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 2));
    }
    Fragment p[kPages];
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
#pragma unroll
      for (int n = 2 * page; n < 2 * page + 2; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j) score[n][j] = weight_of(score[n][j], here[j / 2]);
      as_left(p[page], score[2 * page], score[2 * page + 1]);
    }
    float ones[4] = {}, part[D / 8][4];
    const auto add_up = [&] {
#pragma unroll
      for (int i = 0; i < kPages; ++i) multiply_add(ones, p[i], kOnes, kOnes);
    };
    if constexpr (kScaled<C>) {
      add_up();
#pragma unroll
      for (int page = 0; page < kPages; ++page)
        staging.weigh(turn, page, p[page], score[2 * page], score[2 * page + 1], rows.lane);
    }
    begin_products();
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      multiply<true>(part, p[i], down(chunk.v, i * kPage, kKeys * kPanelColumns * int{sizeof(bf16)}), i > 0);
    commit_products();
    if constexpr (!kScaled<C>) add_up();  // meanwhile
    const Fold folds[2] = {Fold(most[0], here[0]), Fold(most[1], here[1])};
    sum[0] = folds[0](sum[0], ones[0]), sum[1] = folds[1](sum[1], ones[2]);
    wait_for_products<0>();
    settle(part);
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int j = 0; j < 4; ++j) mix[n][j] = folds[j / 2](mix[n][j], part[n][j]);
    __syncthreads();  // the chunk has been read
  }
  wait_for_copies<0>();
  rows.put<D>(a, mix, sum);
#else
  __trap();
#endif
}

template <int D, class C>
void launch(const Pages<C>& a, const PagedAttentionArgs& args, int64_t sequences) {
  constexpr size_t kBytes = sizeof(Staging<D, C, PanelLayout>) + 1024;
  static const bool allowed =
      cudaFuncSetAttribute(prefill<D, C>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes) == cudaSuccess;
  (void)allowed;  // a launch that asks for too much says so
  prefill<D, C><<<dim3(static_cast<unsigned>(row_blocks(args, sequences)), static_cast<unsigned>(a.kv_heads)),
                  kThreads, kBytes>>>(a, sequences);
}

}  // namespace

template <class C>
bool prefill_by_warpgroups(const Pages<C>& pages, const PagedAttentionArgs& args, int64_t sequences) {
  const int dim = args.shape.head_dim;
  if (!on_hopper() || (dim != 64 && dim != 128)) return false;
  dim == 64 ? launch<64>(pages, args, sequences) : launch<128>(pages, args, sequences);
  return true;
}
template bool prefill_by_warpgroups(const Pages<bf16>&, const PagedAttentionArgs&, int64_t);
template bool prefill_by_warpgroups(const Pages<int8_t>&, const PagedAttentionArgs&, int64_t);

}  // namespace flagscale::op
