// One query of a sequence over its pages. A block takes a head of keys, with all heads that share it, and
// walks chunks of them: all of a sequence's where there are many, folding as it goes; else some, and what
// each chunk gives is folded by a second kernel. The operations on a row and their order are the same,
// prefill's too. Bound by memory: the next chunk is on its way while one is worked on.
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_chunks.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr size_t kMostParts = size_t{256} << 20;  // bytes; more sequences than fit are taken in turns
constexpr int64_t kMostWalked = 256;              // chunks that one block walks in any case
constexpr int kPartSize = kMostGroup * 2;         // without the mixes

// What chunks give: [task][sum, most of each head of a group; their mixes].
template <int D>
__device__ float* part_of(float* parts, int64_t task, int group) {
  return parts + task * (kPartSize + group * D);
}

// Weights of 16 heads and a chunk's keys, and with their values' scales.
template <class C>
struct Weights {
  bf16 of_keys[16 * kPitchOf<kKeys>], of_values[16 * kPitchOf<kKeys>];
};
template <>
struct Weights<bf16> {
  bf16 of_keys[16 * kPitchOf<kKeys>];
};

// Chunks on their way. Of 16 columns of a product a lane has two pairs of neighbours in each of its rows:
// column(pair) on, first(sums, row, pair) and second().
template <int D, class C>
struct Chunks : Staging<D, C, TileLayout> {
  __device__ void wait(int turn) { this->arrived(turn); }
  __device__ void score(float (&sums)[2][4], const Fragment (&q)[D / 16], int turn, int page,
                        int lane) const {
    multiply_page<D>(sums, q, this->chunks[turn].k, page, lane);
  }
  __device__ void mix(float (&sums)[2][4], const Fragment (&p)[kPages], int turn, int column,
                      int lane) const {
    mix_columns<D>(sums, p, this->chunks[turn].v, column, lane);
  }
  static __device__ int column(int pair, int lane) { return pair * 8 + lane % 4 * 2; }
  static __device__ float& first(float (&sums)[2][4], int r, int pair) { return sums[pair][2 * r]; }
  static __device__ float& second(float (&sums)[2][4], int r, int pair) { return sums[pair][2 * r + 1]; }
};

// In int8 straight to registers: two bytes are what a matrix of ldmatrix takes for one number, so that each
// register holds a factor of the even columns and one of the odd ones.
template <int D>
struct Chunks<D, int8_t> : NarrowChunks<D> {
  __device__ void wait(int) { NarrowChunks<D>::wait(); }
  __device__ void score(float (&sums)[2][4], const Fragment (&q)[D / 16], int turn, int page,
                        int lane) const {
#pragma unroll
    for (int i = 0; i < D / 16; ++i) multiply(sums, q[i], this->at[turn].k + page * D + i * 16 + lane % 16);
  }
  __device__ void mix(float (&sums)[2][4], const Fragment (&p)[kPages], int turn, int column,
                      int lane) const {
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      multiply(sums, p[i], this->at[turn].v + this->value(i * kPage + lane % 16, column / 16));
  }
  static __device__ void multiply(float (&sums)[2][4], const Fragment& left, const uint4* line) {
    uint32_t r[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(line)));
    multiply_add(sums[0], left, widened<0, 2>(r[0]), widened<0, 2>(r[1]));
    multiply_add(sums[1], left, widened<1, 3>(r[0]), widened<1, 3>(r[1]));
  }
  static __device__ int column(int pair, int lane) { return lane % 4 * 4 + pair * 2; }
  static __device__ float& first(float (&sums)[2][4], int r, int pair) { return sums[0][2 * r + pair]; }
  static __device__ float& second(float (&sums)[2][4], int r, int pair) { return sums[1][2 * r + pair]; }
};

template <int D, class C>
struct Memory {
  Chunks<D, C> chunks;
  alignas(16) Weights<C> weights;
  float page_most[kWarps][16];
};

// One block a sequence (x), head of keys (y) and `walked` chunks (z). parts: null to fold.
// kHalves: 1 where a group has at most 8 heads, the other rows are nobody's then.
template <int D, class C, int kHalves>
__global__ void __launch_bounds__(kThreads, kScaled<C> ? 4 : 3)
    decode_chunks(Pages<C> a, float* parts, int64_t base, int64_t walked, int64_t of_sequence) {
  let_next_start();
  wait_for_previous();
  const int64_t s = base + blockIdx.x, kv = blockIdx.y, end = a.context_lens[s];
  const Span of{s, kv, a.first_key(end - 1), end};
  const int64_t begin = of.first / kKeys, last = (end - 1) / kKeys;
  int64_t c = begin + blockIdx.z * walked;
  const int64_t stop = c + walked < last + 1 ? c + walked : last + 1;
  if (a.queries(s) != 1 || c >= stop) return;
  extern __shared__ uint4 shared[];
  auto& memory = *reinterpret_cast<Memory<D, C>*>(shared);
  auto& chunks = memory.chunks;
  constexpr int kColumns = (D + kWarps * 16 - 1) / (kWarps * 16);  // 16 at a time, of a warp
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = a.heads / a.kv_heads;
  chunks.fetch(0, a, of, c);
  commit_copies();
  Fragment q[D / 16];
  const bf16* row = a.q[a.cu_seqlens[s]] + kv * group * D;
  load_queries<D>(q, [&](int i) { return i < group ? row + i * D : nullptr; }, lane);
  float most[kHalves], sum[kHalves] = {};
#pragma unroll
  for (float& x : most) x = -INFINITY;
  float2 mix[kColumns][kHalves][2] = {};  // of rows and pairs
  float* part =
      parts ? part_of<D>(parts, (int64_t{blockIdx.x} * gridDim.y + kv) * of_sequence + c - begin, group)
            : nullptr;
  for (int turn = 0; c < stop; ++c, turn ^= 1) {
    if (c + 1 < stop) chunks.fetch(turn ^ 1, a, of, c + 1);
    commit_copies();
    chunks.wait(turn);
    const int seen = of.tokens_from(c * kKeys),
              unseen = static_cast<int>(of.first - c * kKeys);  // from, before
    float score[2][4] = {}, here[kHalves];
    chunks.score(score, q, turn, warp, lane);
#pragma unroll
    for (int r = 0; r < kHalves; ++r) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const int key = warp * kPage + chunks.column(pair, lane);
        const auto scaled = [&](float& x, int at) {
          return x = at >= unseen && at < seen ? chunks.scored(turn, at, x, a.scale) : -INFINITY;
        };
        const float larger =
            fmaxf(scaled(chunks.first(score, r, pair), key), scaled(chunks.second(score, r, pair), key + 1));
        here[r] = pair == 0 ? larger : fmaxf(here[r], larger);
      }
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 1));
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 2));
      if (lane % 4 == 0) memory.page_most[warp][lane / 4 + 8 * r] = here[r];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kHalves; ++r) {
      const int i = lane / 4 + 8 * r;
      const auto& pages = memory.page_most;
      here[r] = fmaxf(fmaxf(pages[0][i], pages[1][i]), fmaxf(pages[2][i], pages[3][i]));
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const int key = warp * kPage + chunks.column(pair, lane), at = i * kPitchOf<kKeys> + key;
        const float first = weight_of(chunks.first(score, r, pair), here[r]),
                    second = weight_of(chunks.second(score, r, pair), here[r]);
        *reinterpret_cast<uint32_t*>(memory.weights.of_keys + at) = pair_of(first, second);
        if constexpr (kScaled<C>)
          *reinterpret_cast<uint32_t*>(memory.weights.of_values + at) =
              pair_of(chunks.weighed(turn, key, first), chunks.weighed(turn, key + 1, second));
      }
    }
    __syncthreads();
    Fragment p[kPages];
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      load_left(p[i], memory.weights.of_keys, kPitchOf<kKeys>, 0, i * kPage, lane);
    float ones[4] = {};
#pragma unroll
    for (int i = 0; i < kPages; ++i) multiply_add(ones, p[i], kOnes, kOnes);
    if constexpr (kScaled<C>)
#pragma unroll
      for (int i = 0; i < kPages; ++i)
        load_left(p[i], memory.weights.of_values, kPitchOf<kKeys>, 0, i * kPage, lane);
    float keep[kHalves], take[kHalves];
#pragma unroll
    for (int r = 0; r < kHalves; ++r) {
      if (part && warp == 0 && lane % 4 == 0) {
        part[lane / 4 + 8 * r] = ones[2 * r];
        part[kMostGroup + lane / 4 + 8 * r] = here[r];
      }
      const Fold fold(most[r], here[r]);
      sum[r] = fold(sum[r], ones[2 * r]);
      keep[r] = fold.keep, take[r] = fold.take;
    }
#pragma unroll
    for (int m = 0; m < kColumns; ++m) {
      const int column = (m * kWarps + warp) * 16;
      if (column >= D) break;
      float mixed[2][4] = {};
      chunks.mix(mixed, p, turn, column, lane);
#pragma unroll
      for (int r = 0; r < kHalves; ++r)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const int i = lane / 4 + 8 * r;
          const float2 x{chunks.first(mixed, r, pair), chunks.second(mixed, r, pair)};
          if (part && i < group)
            *reinterpret_cast<float2*>(part + kPartSize + i * D + column + chunks.column(pair, lane)) = x;
          float2& total = mix[m][r][pair];
          total = {folded(total.x, keep[r], x.x, take[r]), folded(total.y, keep[r], x.y, take[r])};
        }
    }
    if (part) part += kPartSize + group * D;
    __syncthreads();  // the chunk has been read
  }
  wait_for_copies<0>();
  if (parts) return;
  bf16* out = a.out[a.cu_seqlens[s]] + kv * group * D;
#pragma unroll
  for (int m = 0; m < kColumns; ++m) {
    const int column = (m * kWarps + warp) * 16;
    if (column >= D) break;
#pragma unroll
    for (int r = 0; r < kHalves; ++r)
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        if (const int i = lane / 4 + 8 * r; i < group)
          *reinterpret_cast<uint32_t*>(out + i * D + column + chunks.column(pair, lane)) =
              pair_of(__fdiv_rn(mix[m][r][pair].x, sum[r]), __fdiv_rn(mix[m][r][pair].y, sum[r]));
  }
}

// One block a sequence and head; a thread has one column.
template <int D, class C>
__global__ void fold_chunks(Pages<C> a, float* parts, int64_t base, int64_t chunks) {
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
    mix = fold(mix, part[kPartSize + i * D + threadIdx.x]);
  }
  put(a.out[a.cu_seqlens[s]] + head * D + threadIdx.x, __fdiv_rn(mix, sum));
}

size_t part_bytes(const PagedAttentionArgs& args) {
  const int64_t group = args.shape.heads / args.shape.kv_heads;
  return static_cast<size_t>(args.shape.kv_heads * (kPartSize + group * args.shape.head_dim)) * sizeof(float);
}

template <int D, class C, int kHalves>
void launch(const Pages<C>& a, const PagedAttentionArgs& args, std::span<std::byte> memory) {
  constexpr size_t kBytes = sizeof(Memory<D, C>);
  static const bool allowed =
      cudaFuncSetAttribute(decode_chunks<D, C, kHalves>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           kBytes) == cudaSuccess;
  (void)allowed;  // a launch that asks for too much says so
  const int64_t sequences = sequences_of(args);
  int64_t most = longest_context(args);
  if (args.shape.window > 0 && most > args.shape.window + kKeys) most = args.shape.window + kKeys;
  const int64_t chunks = divide_up(most, kKeys), heads = a.kv_heads;
  const auto grid = [&](int64_t count, int64_t blocks) {
    return dim3(static_cast<unsigned>(count), static_cast<unsigned>(heads), static_cast<unsigned>(blocks));
  };
  // Whole contexts where they are many for the blocks that run at a time; else pieces, many for each of
  // those.
  const int64_t at_a_time = int64_t{3} * processors();
  if (2 * sequences * heads >= 5 * at_a_time && chunks <= kMostWalked)
    return launch_early(decode_chunks<D, C, kHalves>, grid(sequences, 1), kThreads, kBytes, a, nullptr, 0,
                        chunks, chunks);
  const int64_t walked = divide_up(sequences * heads * chunks, 6 * at_a_time);
  const auto fit = static_cast<int64_t>(memory.size() / (part_bytes(args) * static_cast<size_t>(chunks)));
  auto* parts = reinterpret_cast<float*>(memory.data());
  for (int64_t base = 0; base < sequences; base += fit) {
    const int64_t count = sequences - base < fit ? sequences - base : fit;
    launch_early(decode_chunks<D, C, kHalves>, grid(count, divide_up(chunks, walked)), kThreads, kBytes, a,
                 parts, base, walked, chunks);
    launch_early(fold_chunks<D, C>, dim3(static_cast<unsigned>(count), static_cast<unsigned>(a.heads)), D, 0,
                 a, parts, base, chunks);
  }
}

}  // namespace

template <class C>
void decode(const Pages<C>& pages, const PagedAttentionArgs& args, std::span<std::byte> memory) {
  for_head_dim(args.shape.head_dim, [&](auto dim) {
    const bool half = pages.heads <= 8 * pages.kv_heads;
    half ? launch<dim(), C, 1>(pages, args, memory) : launch<dim(), C, 2>(pages, args, memory);
  });
}
template void decode(const Pages<bf16>&, const PagedAttentionArgs&, std::span<std::byte>);
template void decode(const Pages<int8_t>&, const PagedAttentionArgs&, std::span<std::byte>);

// One sequence of full length fits in any case.
size_t decode_bytes(const PagedAttentionArgs& args) {
  const auto sequences = static_cast<size_t>(args.context_lens.dims[0]);
  const size_t one =
      part_bytes(args) * static_cast<size_t>(divide_up(args.block_tables.dim(1) * kPageTokens, kKeys) + 1);
  const size_t all = one * sequences;
  return all < kMostParts ? all : kMostParts > one ? kMostParts : one;
}

}  // namespace flagscale::op
