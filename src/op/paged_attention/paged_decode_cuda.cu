// One query of a sequence over its pages. A block takes a head of keys, with all heads that share it, and
// walks chunks of them: all of a sequence's where there are many, folding as it goes (of int8 on Hopper a
// warp does, paged_decode_warps_cuda.cu); else some, and what each chunk gives is folded by a second kernel.
// The operations on a row and their order are the same, prefill's too. Bound by memory: the next chunk, of
// int8 on Hopper the next two, are on their way while one is worked on.
#include "op/paged_attention/paged_decode_chunks_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr size_t kMostParts = size_t{256} << 20;  // bytes; more sequences than fit are taken in turns
// Chunks that one block, and that one warp, walks in any case.
constexpr int64_t kMostWalked = 256, kMostOfWarp = 64;
constexpr int kPartSize = kMostGroup * 2;  // without the mixes

// What chunks give: [task][sum, most of each head of a group; their mixes].
template <int D>
__device__ float* part_of(float* parts, int64_t task, int group) {
  return parts + task * (kPartSize + group * D);
}

// Weights of a chunk's keys, of 8 or 16 heads, and with their values' scales. Of 8 a left factor's other rows
// are whatever follows, and nobody's.
template <class C, int kHalves>
struct Weights {
  bf16 of_keys[8 * kHalves * kPitchOf<kKeys>], of_values[16 * kPitchOf<kKeys>];
};
template <int kHalves>
struct Weights<bf16, kHalves> {
  bf16 of_keys[16 * kPitchOf<kKeys>];
};

template <class C, int kHalves, class Chunks>
struct Memory {
  Chunks chunks;
  alignas(16) Weights<C, kHalves> weights;
  float page_most[kWarps][8 * kHalves];
};

// One block a sequence (x), head of keys (y) and `walked` chunks (z). parts: null to fold.
// kHalves: 1 where a group has at most 8 heads, the other rows are nobody's then.
template <int D, class C, int kHalves, class Chunks>
__global__ void __launch_bounds__(kThreads, kScaled<C> ? 4 : 3)
    decode_chunks(const __grid_constant__ CUtensorMap values, Pages<C> a, float* parts, int64_t base,
                  int walked, int64_t of_sequence) {
  let_next_start();
  // Which keys there are comes with a step's inputs, before its first kernel.
  const int s = static_cast<int>(base + blockIdx.x), kv = static_cast<int>(blockIdx.y),
            end = a.context_lens[s];
  const Span of{s, kv, static_cast<int>(a.first_key(end - 1)), end};
  const int begin = of.first / kKeys, last = (end - 1) / kKeys;
  int c = begin + static_cast<int>(blockIdx.z) * walked;
  const int stop = c + walked < last + 1 ? c + walked : last + 1;
  const bool none = a.queries(s) != 1 || c >= stop;
  wait_for_previous();
  if (none) return;
  extern __shared__ uint4 shared[];
  auto& memory = *reinterpret_cast<Memory<C, kHalves, Chunks>*>(shared + to_boundary(shared) / sizeof(uint4));
  auto& chunks = memory.chunks;
  constexpr int kColumns = (D + kWarps * 16 - 1) / (kWarps * 16);  // 16 at a time, of a warp
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0),
            lane = static_cast<int>(threadIdx.x) % 32;
  const int group = a.heads / a.kv_heads;
  Source<C> from{a, values, of, stop, warp, lane};
  chunks.start(from, c);
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
  for (int turn = 0, phase = 0; c < stop; ++c) {
    chunks.begin(from, c, turn, phase);
    const int seen = end - c * kKeys,
              unseen = of.first - c * kKeys;  // from, before
    const bool whole = seen >= kKeys && unseen <= 0;
    const auto is_seen = [&](int key) { return whole || (key >= unseen && key < seen); };
    float score[2][4] = {}, here[kHalves];
    chunks.score(score, q, turn, warp, lane);
    const Factors of_keys = chunks.of_keys(turn, warp, lane, a.scale);
#pragma unroll
    for (int r = 0; r < kHalves; ++r) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const int key = warp * kPage + chunks.column(pair, lane);
        float &first = chunks.first(score, r, pair), &second = chunks.second(score, r, pair);
        first = is_seen(key) ? __fmul_rn(first, of_keys.at[pair][0]) : -INFINITY;
        second = is_seen(key + 1) ? __fmul_rn(second, of_keys.at[pair][1]) : -INFINITY;
        here[r] = pair == 0 ? fmaxf(first, second) : fmaxf(here[r], fmaxf(first, second));
      }
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 1));
      here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 2));
      if (lane % 4 == 0) memory.page_most[warp][lane / 4 + 8 * r] = here[r];
    }
    __syncthreads();
    chunks.met(from, c, turn);
    Factors of_values{};
    if constexpr (kScaled<C>) of_values = chunks.of_values(turn, warp, lane);
#pragma unroll
    for (int r = 0; r < kHalves; ++r) {
      const int i = lane / 4 + 8 * r;
      const auto& pages = memory.page_most;
      here[r] = fmaxf(fmaxf(pages[0][i], pages[1][i]), fmaxf(pages[2][i], pages[3][i]));
      const float base = base_of(here[r]);
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const int key = warp * kPage + chunks.column(pair, lane), at = i * kPitchOf<kKeys> + key;
        const float first = weight_of(chunks.first(score, r, pair), base),
                    second = weight_of(chunks.second(score, r, pair), base);
        *reinterpret_cast<uint32_t*>(memory.weights.of_keys + at) = pair_of(first, second);
        if constexpr (kScaled<C>)  // the scale of what is no key may be no number
          *reinterpret_cast<uint32_t*>(memory.weights.of_values + at) =
              pair_of(is_seen(key) ? first * of_values.at[pair][0] : 0.f,
                      is_seen(key + 1) ? second * of_values.at[pair][1] : 0.f);
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
    chunks.end();
    if (++turn == Chunks::kPlaces) turn = 0, phase ^= 1;
  }
  wait_for_copies<0>();
  if (parts) return;
  bf16* out = a.out[a.cu_seqlens[s]] + kv * group * D;
  float share[kHalves];
#pragma unroll
  for (int r = 0; r < kHalves; ++r) share[r] = share_of(sum[r]);
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
              pair_of(mix[m][r][pair].x * share[r], mix[m][r][pair].y * share[r]);
  }
}

// One block a sequence and head; a thread has one column.
template <int D, class C>
__global__ void fold_chunks(Pages<C> a, float* parts, int64_t base, int64_t chunks) {
  let_next_start();
  const int64_t s = base + blockIdx.x, head = blockIdx.y, end = a.context_lens[s];
  const bool none = a.queries(s) != 1;
  wait_for_previous();
  if (none) return;
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
  put(a.out[a.cu_seqlens[s]] + head * D + threadIdx.x, mix * share_of(sum));
}

size_t part_bytes(const PagedAttentionArgs& args) {
  const int64_t group = args.shape.heads / args.shape.kv_heads;
  return static_cast<size_t>(args.shape.kv_heads * (kPartSize + group * args.shape.head_dim)) * sizeof(float);
}

template <int D, class C, int kHalves, class Chunks>
void launch(const CUtensorMap& values, const Pages<C>& a, const PagedAttentionArgs& args,
            std::span<std::byte> memory) {
  constexpr auto* kKernel = decode_chunks<D, C, kHalves, Chunks>;
  constexpr size_t kBytes = sizeof(Memory<C, kHalves, Chunks>) + kBoundary;
  static const bool once = (allow_shared("paged_attention", kKernel, kBytes), true);
  (void)once;
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
  if (2 * sequences * heads >= 5 * at_a_time && chunks <= kMostWalked) {
    if constexpr (std::is_same_v<Chunks, BulkChunks<D>>)
      if (chunks <= kMostOfWarp) return decode_by_warps(a, args);
    return launch_early(kKernel, grid(sequences, 1), kThreads, kBytes, values, a, nullptr, 0,
                        static_cast<int>(chunks), chunks);
  }
  const int64_t walked = divide_up(sequences * heads * chunks, 6 * at_a_time);
  const auto fit = static_cast<int64_t>(memory.size() / (part_bytes(args) * static_cast<size_t>(chunks)));
  auto* parts = reinterpret_cast<float*>(memory.data());
  for (int64_t base = 0; base < sequences; base += fit) {
    const int64_t count = sequences - base < fit ? sequences - base : fit;
    launch_early(kKernel, grid(count, divide_up(chunks, walked)), kThreads, kBytes, values, a, parts, base,
                 static_cast<int>(walked), chunks);
    launch_early(fold_chunks<D, C>, dim3(static_cast<unsigned>(count), static_cast<unsigned>(a.heads)), D, 0,
                 a, parts, base, chunks);
  }
}

template <int D, class C, int kHalves>
void launch(const Pages<C>& a, const PagedAttentionArgs& args, std::span<std::byte> memory) {
  if constexpr (kScaled<C>)
    if (on_hopper()) {
      constexpr int64_t kOfHead = (D + int64_t{sizeof(float)}) * kPage;
      const TensorView& v = args.v_pages;
      return launch<D, C, kHalves, BulkChunks<D>>(
          lines_of_pages(v.data, v.dims[0], v.row_stride(), a.kv_heads, kOfHead, kPage, D), a, args, memory);
    }
  launch<D, C, kHalves, CopiedChunks<D, C>>({}, a, args, memory);
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
