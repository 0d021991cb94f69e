// Paged attention on tensor cores. Keys are cut into chunks of kKeys at fixed positions; a chunk gives each
// row its maximum, the sum of its weights and the mix of its values, and chunks are folded in order of
// position: for one query of a sequence by paged_decode_cuda.cu, for more here, 64 rows a block, and on
// Hopper by paged_prefill_warpgroup_cuda.cu. All do the same operations in the same order on a row, so it
// gets the same bits in any way. Decode is bound by memory, prefill by arithmetic.
#include "op/paged_attention/paged_chunks_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kRows = 16 * kWarps;

// One block kRows rows of a sequence (x) and a head of keys (y).
template <int D, class C>
__global__ void __launch_bounds__(kThreads) prefill_rows(Pages<C> a, int64_t sequences) {
  extern __shared__ uint4 shared[];
  auto& staging = *reinterpret_cast<Staging<D, C>*>(shared);
  const RowsOfBlock<kRows> rows(a, sequences, blockIdx.x, blockIdx.y);
  if (rows.none()) return;
  const int lane = rows.lane;
  const Span of{rows.s, rows.kv, rows.lowest, rows.end};
  Fragment q[D / 16];
  rows.load<D>(q, a);
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, mix[D / 8][4] = {};
  int c = rows.lowest / kKeys;
  staging.fetch(0, a, of, c);
  commit_copies();
  for (int turn = 0; c * kKeys <= rows.highest; ++c, turn ^= 1) {
    if ((c + 1) * kKeys <= rows.highest) staging.fetch(turn ^ 1, a, of, c + 1);
    commit_copies();
    const auto& chunk = staging.arrived(turn);
    float score[kPages][2][4] = {}, here[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      multiply_page<D>(score[page], q, chunk.k, page, lane);
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int key = page * kPage + n * 8 + lane % 4 * 2 + j % 2;
          const bool seen = c * kKeys + key >= rows.first[j / 2] && c * kKeys + key <= rows.last[j / 2];
          score[page][n][j] = seen ? staging.scored(turn, key, score[page][n][j], a.scale) : -INFINITY;
        }
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int n = 0; n < 2; ++n)
          here[r] = fmaxf(here[r], fmaxf(score[page][n][2 * r], score[page][n][2 * r + 1]));
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 1));
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 2));
    }
    const float base[2] = {base_of(here[0]), base_of(here[1])};
    Fragment p[kPages];
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j) score[page][n][j] = weight_of(score[page][n][j], base[j / 2]);
      as_left(p[page], score[page][0], score[page][1]);
    }
    const Fold folds[2] = {Fold(most[0], here[0]), Fold(most[1], here[1])};
    float ones[4] = {};
#pragma unroll
    for (int i = 0; i < kPages; ++i) multiply_add(ones, p[i], kOnes, kOnes);
    sum[0] = folds[0](sum[0], ones[0]), sum[1] = folds[1](sum[1], ones[2]);
#pragma unroll
    for (int page = 0; page < kPages; ++page)
      staging.weigh(turn, page, p[page], score[page][0], score[page][1], lane);
#pragma unroll
    for (int column = 0; column < D; column += 16) {
      float part[2][4] = {};
      mix_columns<D>(part, p, chunk.v, column, lane);
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j) mix[column / 8 + n][j] = folds[j / 2](mix[column / 8 + n][j], part[n][j]);
    }
    __syncthreads();  // the chunk has been read
  }
  wait_for_copies<0>();
  rows.put<D>(a, mix, sum);
}

template <int D, class C>
void prefill(const Pages<C>& a, const PagedAttentionArgs& args, int64_t sequences) {
  constexpr size_t kBytes = sizeof(Staging<D, C>);
  static_assert(kBytes <= kSharedAnywhere);
  static const bool once = (allow_shared("paged_attention", prefill_rows<D, C>, kBytes), true);
  (void)once;
  prefill_rows<D, C>
      <<<dim3(static_cast<unsigned>(row_blocks<kRows>(args, sequences)), static_cast<unsigned>(a.kv_heads)),
         kThreads, kBytes>>>(a, sequences);
}

template <class C>
void attend(KernelContext& context, const PagedAttentionArgs& args) {
  const Pages<C> a(args);
  const int64_t sequences = sequences_of(args);
  if (most_queries(args) > 1 && !prefill_by_warpgroups(a, args, sequences))
    for_head_dim(args.shape.head_dim, [&](auto dim) { prefill<dim()>(a, args, sequences); });
  if (args.q.rows() > 1 && sequences == 1) return;  // nobody has one query
  decode(a, args, context.workspace);
}

}  // namespace

bool has_tiles(const PagedAttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  const bool sizes =
      shape.head_dim == 64 || shape.head_dim == 80 || shape.head_dim == 96 || shape.head_dim == 128;
  return sizes && shape.heads / shape.kv_heads <= kMostGroup && args.q.dtype == DType::kBF16 &&
         (args.k_pages.dtype == DType::kBF16 || args.k_pages.dtype == DType::kI8);
}

void attend_by_tiles(KernelContext& context, const PagedAttentionArgs& args) {
  args.k_pages.dtype == DType::kI8 ? attend<int8_t>(context, args) : attend<bf16>(context, args);
  check_launch("paged_attention");
}

size_t tiles_workspace(const PagedAttentionArgs& args) { return decode_bytes(args); }

}  // namespace flagscale::op
