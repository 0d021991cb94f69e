// Prefill of paged attention by Hopper's warpgroups: what paged_attention_mma_cuda.cu's prefill_rows does, in
// the same order, with wgmma. Bound by exponentials and products in turn; blocks on one multiprocessor fill
// each other's gaps.
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_rows.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

// A chunk of one head in shared memory: keys a line of D, values a line of tokens; both are summed over down
// lines.
template <int D>
struct Chunk {
  bf16 k[D * kKeys];
  bf16 v[kKeys * D];
};

// Starts copying chunk c. Pages without a key in [first, end) are not looked at, and tokens from `end` on are
// zeros among the values: nothing times what was never written is not nothing.
template <int D>
__device__ void fetch(Chunk<D>& to, const Pages& a, const RowsOfBlock& rows, int64_t c) {
  constexpr int kPieces = D * 2;  // of a page, 16 bytes each
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kPages * kPieces; i += kThreads) {
    const int page = i / kPieces, piece = i % kPieces, token = piece / (D / 8), of_token = piece % (D / 8);
    const int64_t begin = c * kKeys + page * kPage;
    const bool there = begin < rows.end && begin + kPage > rows.lowest;
    const int64_t row = there ? a.tables[rows.s][begin / kPage] : 0, at = rows.kv * D * kPage + piece * 8;
    copy_16_bytes(to.k + in_panel(piece / 2, page * 2 + piece % 2), a.k_pages[row] + at, there);
    copy_16_bytes(to.v + of_token / 8 * kKeys * kPanelColumns + in_panel(page * kPage + token, of_token % 8),
                  a.v_pages[row] + at, there && begin + token < rows.end);
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, D == 64 ? 3 : 2) prefill(Pages a) {
#ifdef FLAGSCALE_HOPPER
  extern __shared__ uint8_t memory[];
  auto* chunks = reinterpret_cast<Chunk<D>*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  const RowsOfBlock rows(a);
  if (rows.none()) return;
  Fragment q[D / 16];
  rows.load<D>(q, a);
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, mix[D / 8][4] = {};
  int64_t c = rows.lowest / kKeys;
  fetch(chunks[0], a, rows, c);
  commit_copies();
  for (int turn = 0; c * kKeys <= rows.highest; ++c, turn ^= 1) {
    if ((c + 1) * kKeys <= rows.highest) fetch(chunks[turn ^ 1], a, rows, c + 1);
    commit_copies();
    wait_for_copies<1>();
    show_to_products();
    __syncthreads();
    const Chunk<D>& chunk = chunks[turn];
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
        const int64_t key = c * kKeys + n * 8 + rows.lane % 4 * 2 + j % 2;
        score[n][j] = key >= rows.first[j / 2] && key <= rows.last[j / 2] ? score[n][j] * a.scale : -INFINITY;
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
    float part[D / 8][4];
    begin_products();
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      multiply<true>(part, p[i], down(chunk.v, i * kPage, kKeys * kPanelColumns * int{sizeof(bf16)}), i > 0);
    commit_products();
    float ones[4] = {};
#pragma unroll
    for (int i = 0; i < kPages; ++i) multiply_add(ones, p[i], kOnes, kOnes);
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
#endif
}

template <int D>
void launch(const Pages& a, int64_t queries, int64_t sequences) {
  constexpr size_t kBytes = 2 * sizeof(Chunk<D>) + 1024;
  static const bool allowed =
      cudaFuncSetAttribute(prefill<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes) == cudaSuccess;
  (void)allowed;  // a launch that asks for too much says so
  const int64_t group = a.heads / a.kv_heads;
  prefill<D><<<dim3(static_cast<unsigned>(divide_up(queries * group, kRows)),
                    static_cast<unsigned>(a.kv_heads), static_cast<unsigned>(sequences)),
               kThreads, kBytes>>>(a);
}

}  // namespace

bool prefill_by_warpgroups(const Pages& pages, int dim, int64_t queries, int64_t sequences) {
  if (!on_hopper() || (dim != 64 && dim != 128)) return false;
  dim == 64 ? launch<64>(pages, queries, sequences) : launch<128>(pages, queries, sequences);
  return true;
}

}  // namespace flagscale::op
