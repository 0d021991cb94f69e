// Paged attention on tensor cores. Keys are cut into chunks of kKeys at fixed positions; a chunk gives each
// row its maximum, the sum of its weights and the mix of its values, and chunks are folded in order of
// position. One query of a sequence (decode): a block a chunk, all heads that share its keys, then a second
// kernel folds. Many (prefill): a block has 64 rows and folds as it walks. Both do the same operations in the
// same order on a row, so it gets the same bits either way. Decode is bound by memory, prefill by arithmetic.
#include "op/paged_attention/paged_rows.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kMostGroup = 16;                    // heads that share keys
constexpr size_t kMostParts = size_t{256} << 20;  // bytes; more sequences than fit are taken in turns

// A chunk of one head in shared memory: keys transposed as in their pages, values a row a token.
template <int D>
struct Chunk {
  bf16 k[kPages][D * kPage];
  bf16 v[kKeys * kPitchOf<D>];
};

// Where 8 tokens of line d of a page's keys lie: swizzled, so that 8 lines fall on different banks.
__device__ int key_place(int d, int half) { return d * kPage + (half ^ (d >> 2 & 1)) * 8; }

// Starts copying chunk c. Pages without a key in [first, end) are not looked at, and tokens from `end` on are
// zeros among the values: nothing times what was never written is not nothing.
template <int D>
__device__ void fetch(Chunk<D>& to, const Pages& a, int64_t s, int64_t kv, int64_t c, int64_t first,
                      int64_t end) {
  constexpr int kPieces = D * 2;  // of a page, 16 bytes each
  for (int i = static_cast<int>(threadIdx.x); i < kPages * kPieces; i += kThreads) {
    const int page = i / kPieces, piece = i % kPieces, token = piece / (D / 8);
    const int64_t begin = c * kKeys + page * kPage;
    const bool there = begin < end && begin + kPage > first;
    const int64_t row = there ? a.tables[s][begin / kPage] : 0, at = kv * D * kPage + piece * 8;
    copy_16_bytes(to.k[page] + key_place(piece / 2, piece % 2), a.k_pages[row] + at, there);
    copy_16_bytes(to.v + (page * kPage + token) * kPitchOf<D> + piece % (D / 8) * 8, a.v_pages[row] + at,
                  there && begin + token < end);
  }
}

// Scores of 16 rows and the keys of one page, scaled; keys that a row does not see are -infinity.
template <int D>
__device__ void score_page(float (&score)[2][4], const Fragment (&q)[D / 16], const bf16* page, float scale,
                           int64_t begin, const int64_t (&first)[2], const int64_t (&last)[2], int lane) {
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int j = 0; j < 4; ++j) score[n][j] = 0;
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    uint32_t b[4];
    load_matrices_transposed(b, page + key_place(i * 16 + lane % 16, lane / 16));
    multiply_add(score[0], q[i], b[0], b[1]);
    multiply_add(score[1], q[i], b[2], b[3]);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t key = begin + n * 8 + lane % 4 * 2 + j % 2;
      score[n][j] = key >= first[j / 2] && key <= last[j / 2] ? score[n][j] * scale : -INFINITY;
    }
}

// Results of decode's chunks: [task][sum, most of each head of a group; their mixes].
template <int D>
constexpr int kPartSize = kMostGroup * 2;  // without the mixes
template <int D>
__device__ float* part_of(float* parts, int64_t task, int group) {
  return parts + task * (kPartSize<D> + group * D);
}

// One block a sequence (x), head of keys (y) and chunk (z).
template <int D>
__global__ void __launch_bounds__(kThreads) decode_chunks(Pages a, float* parts, int64_t base) {
  let_next_start();
  wait_for_previous();
  const int64_t s = base + blockIdx.x, kv = blockIdx.y, end = a.context_lens[s], first = a.first_key(end - 1);
  const int64_t c = first / kKeys + blockIdx.z;
  if (a.queries(s) != 1 || c * kKeys >= end) return;
  __shared__ alignas(16) Chunk<D> chunk;
  __shared__ alignas(16) bf16 weights[16 * kPitchOf<kKeys>];
  __shared__ float page_most[kWarps][16];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = a.heads / a.kv_heads;
  fetch<D>(chunk, a, s, kv, c, first, end);
  commit_copies();
  Fragment q[D / 16];
  const bf16* row = a.q[a.cu_seqlens[s]] + kv * group * D;
  load_queries<D>(q, [&](int i) { return i < group ? row + i * D : nullptr; }, lane);
  wait_for_copies<0>();
  __syncthreads();
  float score[2][4];
  const int64_t firsts[2] = {first, first}, lasts[2] = {end - 1, end - 1};
  score_page<D>(score, q, chunk.k[warp], a.scale, c * kKeys + warp * kPage, firsts, lasts, lane);
  float most[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    most[r] = fmaxf(fmaxf(score[0][2 * r], score[0][2 * r + 1]), fmaxf(score[1][2 * r], score[1][2 * r + 1]));
    most[r] = fmaxf(most[r], __shfl_xor_sync(0xffffffffu, most[r], 1));
    most[r] = fmaxf(most[r], __shfl_xor_sync(0xffffffffu, most[r], 2));
    if (lane % 4 == 0) page_most[warp][lane / 4 + 8 * r] = most[r];
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = lane / 4 + 8 * r;
    most[r] = fmaxf(fmaxf(page_most[0][i], page_most[1][i]), fmaxf(page_most[2][i], page_most[3][i]));
#pragma unroll
    for (int n = 0; n < 2; ++n)
      *reinterpret_cast<uint32_t*>(weights + i * kPitchOf<kKeys> + warp * kPage + n * 8 + lane % 4 * 2) =
          pair_of(weight_of(score[n][2 * r], most[r]), weight_of(score[n][2 * r + 1], most[r]));
  }
  __syncthreads();
  Fragment p[kPages];
#pragma unroll
  for (int i = 0; i < kPages; ++i) load_left(p[i], weights, kPitchOf<kKeys>, 0, i * kPage, lane);
  float* part = part_of<D>(parts, (int64_t{blockIdx.x} * gridDim.y + kv) * gridDim.z + blockIdx.z, group);
  if (warp == 0) {
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < kPages; ++i) multiply_add(sum, p[i], kOnes, kOnes);
    if (lane % 4 == 0) {
      part[lane / 4] = sum[0], part[lane / 4 + 8] = sum[2];
      part[kMostGroup + lane / 4] = most[0], part[kMostGroup + lane / 4 + 8] = most[1];
    }
  }
  float* mixes = part + kPartSize<D>;
  for (int column = warp * 16; column < D; column += kWarps * 16) {
    float mix[2][4] = {};
#pragma unroll
    for (int i = 0; i < kPages; ++i) {
      uint32_t b[4];
      load_right_transposed(b, chunk.v, kPitchOf<D>, i * kPage, column, lane);
      multiply_add(mix[0], p[i], b[0], b[1]);
      multiply_add(mix[1], p[i], b[2], b[3]);
    }
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (const int i = lane / 4 + 8 * r; i < group)
          *reinterpret_cast<float2*>(mixes + i * D + column + n * 8 + lane % 4 * 2) =
              make_float2(mix[n][2 * r], mix[n][2 * r + 1]);
  }
}

// One block a sequence and head; a thread has one column.
template <int D>
__global__ void fold_chunks(Pages a, float* parts, int64_t base, int64_t chunks) {
  let_next_start();
  wait_for_previous();
  const int64_t s = base + blockIdx.x, head = blockIdx.y, end = a.context_lens[s];
  if (a.queries(s) != 1) return;
  const int group = a.heads / a.kv_heads, i = static_cast<int>(head % group);
  const int64_t kv = head / group, first = a.first_key(end - 1) / kKeys,
                count = (end - 1) / kKeys + 1 - first;
  float most = -INFINITY, sum = 0, mix = 0;
#pragma unroll 4
  for (int64_t c = 0; c < count; ++c) {
    const float* part = part_of<D>(parts, (int64_t{blockIdx.x} * a.kv_heads + kv) * chunks + c, group);
    const Fold fold(most, part[kMostGroup + i]);
    sum = fold(sum, part[i]);
    mix = fold(mix, part[kPartSize<D> + i * D + threadIdx.x]);
  }
  put(a.out[a.cu_seqlens[s]] + head * D + threadIdx.x, __fdiv_rn(mix, sum));
}

// One block 64 rows (x, the last first: they see most), a head of keys (y) and a sequence (z).
template <int D>
__global__ void __launch_bounds__(kThreads) prefill_rows(Pages a) {
  extern __shared__ uint4 shared[];
  auto* chunks = reinterpret_cast<Chunk<D>*>(shared);
  const RowsOfBlock rows(a);
  if (rows.none()) return;
  const int lane = rows.lane;
  Fragment q[D / 16];
  rows.load<D>(q, a);
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, mix[D / 8][4] = {};
  int64_t c = rows.lowest / kKeys;
  fetch<D>(chunks[0], a, rows.s, rows.kv, c, rows.lowest, rows.end);
  commit_copies();
  for (int turn = 0; c * kKeys <= rows.highest; ++c, turn ^= 1) {
    if ((c + 1) * kKeys <= rows.highest)
      fetch<D>(chunks[turn ^ 1], a, rows.s, rows.kv, c + 1, rows.lowest, rows.end);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    const Chunk<D>& chunk = chunks[turn];
    float score[kPages][2][4], here[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      score_page<D>(score[page], q, chunk.k[page], a.scale, c * kKeys + page * kPage, rows.first, rows.last,
                    lane);
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
    Fragment p[kPages];
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j) score[page][n][j] = weight_of(score[page][n][j], here[j / 2]);
      as_left(p[page], score[page][0], score[page][1]);
    }
    const Fold folds[2] = {Fold(most[0], here[0]), Fold(most[1], here[1])};
    float ones[4] = {};
#pragma unroll
    for (int i = 0; i < kPages; ++i) multiply_add(ones, p[i], kOnes, kOnes);
    sum[0] = folds[0](sum[0], ones[0]), sum[1] = folds[1](sum[1], ones[2]);
#pragma unroll
    for (int column = 0; column < D; column += 16) {
      float part[2][4] = {};
#pragma unroll
      for (int i = 0; i < kPages; ++i) {
        uint32_t b[4];
        load_right_transposed(b, chunk.v, kPitchOf<D>, i * kPage, column, lane);
        multiply_add(part[0], p[i], b[0], b[1]);
        multiply_add(part[1], p[i], b[2], b[3]);
      }
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

size_t part_bytes(const PagedAttentionArgs& args) {
  const int64_t group = args.shape.heads / args.shape.kv_heads;
  return static_cast<size_t>(args.shape.kv_heads * (2 * kMostGroup + group * args.shape.head_dim)) *
         sizeof(float);
}

template <int D>
void run(KernelContext& context, const PagedAttentionArgs& args) {
  const Pages a(args);
  const int64_t sequences = sequences_of(args), queries = most_queries(args);
  if (queries > 1 && !prefill_by_warpgroups(a, D, queries, sequences)) {
    static const bool allowed =
        cudaFuncSetAttribute(prefill_rows<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             2 * sizeof(Chunk<D>)) == cudaSuccess;
    (void)allowed;  // a launch that asks for too much says so
    const int64_t group = a.heads / a.kv_heads;
    prefill_rows<D><<<dim3(static_cast<unsigned>(divide_up(queries * group, kRows)),
                           static_cast<unsigned>(a.kv_heads), static_cast<unsigned>(sequences)),
                      kThreads, 2 * sizeof(Chunk<D>)>>>(a);
  }
  if (args.q.rows() > 1 && sequences == 1) return;  // nobody has one query
  auto* parts = reinterpret_cast<float*>(context.workspace.data());
  int64_t most = longest_context(args);
  if (args.shape.window > 0 && most > args.shape.window + kKeys) most = args.shape.window + kKeys;
  const int64_t chunks = divide_up(most, kKeys);
  const auto at_once =
      static_cast<int64_t>(context.workspace.size() / (part_bytes(args) * static_cast<size_t>(chunks)));
  for (int64_t base = 0; base < sequences; base += at_once) {
    const auto count = static_cast<unsigned>(sequences - base < at_once ? sequences - base : at_once);
    launch_early(decode_chunks<D>,
                 dim3(count, static_cast<unsigned>(a.kv_heads), static_cast<unsigned>(chunks)), kThreads, 0,
                 a, parts, base);
    launch_early(fold_chunks<D>, dim3(count, static_cast<unsigned>(a.heads)), D, 0, a, parts, base, chunks);
  }
}

}  // namespace

bool has_tiles(const PagedAttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  const bool sizes =
      shape.head_dim == 64 || shape.head_dim == 80 || shape.head_dim == 96 || shape.head_dim == 128;
  return sizes && shape.heads / shape.kv_heads <= kMostGroup && args.q.dtype == DType::kBF16 &&
         args.k_pages.dtype == DType::kBF16;
}

void attend_by_tiles(KernelContext& context, const PagedAttentionArgs& args) {
  switch (args.shape.head_dim) {
    case 64:
      run<64>(context, args);
      break;
    case 80:
      run<80>(context, args);
      break;
    case 96:
      run<96>(context, args);
      break;
    default:
      run<128>(context, args);
  }
  check_launch("paged_attention");
}

// One sequence of full length fits in any case.
size_t tiles_workspace(const PagedAttentionArgs& args) {
  const auto sequences = static_cast<size_t>(args.context_lens.dims[0]);
  const size_t one =
      part_bytes(args) * static_cast<size_t>(divide_up(args.block_tables.dim(1) * kPageTokens, kKeys) + 1);
  const size_t all = one * sequences;
  return all < kMostParts ? all : kMostParts > one ? kMostParts : one;
}

}  // namespace flagscale::op
