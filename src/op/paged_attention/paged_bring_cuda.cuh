#pragma once
// How one warpgroup of a block brings chunks of keys and values to the others, which multiply them by wgmma:
// stages of shared memory with a barrier for what lies there and one for what has been read.

#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_chunks_cuda.cuh"

namespace flagscale::op::bringing {
using namespace cuda;

constexpr int kGroups = 2, kGroup = 128, kRowsOf = 64, kRows = kGroups * kRowsOf;
constexpr int kStages = 4, kBehind = 2;  // of chunks; how many copies of bf16 are begun after the one awaited
constexpr int kPanel = kKeys * kPanelColumns;
constexpr int kSixteen = 16 * kPanelColumns / 8;  // lines of a panel, as factors of products count them

// A chunk in panels: lines of D of keys, tokens of values; both are summed over down lines.
template <int D>
struct alignas(1024) Panels {
  bf16 k[kKeys * D], v[kKeys * D];
  static __device__ int key(int page, int d, int half) { return in_panel(d, page * 2 + half); }
  static __device__ int value(int token, int piece) {
    return piece / 8 * kPanel + in_panel(token, piece % 8);
  }
};

template <int D>
struct Memory {
  Panels<D> chunks[kStages];
  alignas(1024) bf16 q[kGroups][kRowsOf * D];
  float scales[kStages][2][kKeys];  // of int8: of scores, of values
  Barrier full[kStages], empty[kStages];

  __device__ void init() {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i)
        init_barrier(&full[i], kPages * 32), init_barrier(&empty[i], kGroups * kGroup);
      show_barriers();
    }
    __syncthreads();
  }
  // By each thread that brings, when its share of a chunk lies there.
  __device__ void give(int stage) {
    show_to_products();
    arrive(&full[stage]);
  }
  // By each that multiplies, when it has read what it needs.
  __device__ void release(int stage) { arrive(&empty[stage]); }
};

struct Turn {
  int stage = 0, phase = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, phase ^= 1;
  }
};

// Chunks [first, last] that a block walks.
struct Walk {
  int first, last;
};

// A lane's part of a page's rows in bringing chunks; a warp brings one page of each.
template <int D, class C>
struct Bringer;

template <int D>
struct Bringer<D, bf16> {
  // Keys by eight lines at a time and values by tokens, each eight lanes on different banks.
  static constexpr int kLanes = D / 8, kTokens = 32 / kLanes;
  static __device__ void bring(Memory<D>& memory, const Pages<bf16>& a, const Span& of, const Walk& walk,
                               int page, int lane, Turn& fetched) {
    const int line = lane % 8 + lane / 16 * 8, half = lane / 8 % 2;
    const int token = lane / kLanes, piece = lane % kLanes;
    const int32_t* table = a.tables[of.s];
    const int head = of.kv * D * kPage;
    const auto row_of = [&](int c) {
      const int begin = c * kKeys + page * kPage;
      return c <= walk.last && of.has_page(begin) ? table[begin / kPage] : -1;
    };
    Turn arrived = fetched;
    int row = row_of(walk.first);
    for (int c = walk.first; c <= walk.last + kBehind; ++c) {
      if (c <= walk.last) {
        const bool there = row >= 0;
        const int tokens = there ? of.tokens_from(c * kKeys + page * kPage) : 0;
        const bf16* k = a.k_pages[there ? row : 0] + head + line * kPage + half * 8;
        const bf16* v = a.v_pages[there ? row : 0] + head + lane * 8;
        row = row_of(c + 1);
        wait(&memory.empty[fetched.stage], fetched.phase ^ 1);
        Panels<D>& to = memory.chunks[fetched.stage];
#pragma unroll
        for (int m = 0; m < D / 16; ++m)
          copy_16_bytes(to.k + Panels<D>::key(page, line + m * 16, half), k + m * 16 * kPage, there);
#pragma unroll
        for (int m = 0; m < kPage / kTokens; ++m)
          copy_16_bytes(to.v + Panels<D>::value(page * kPage + token + m * kTokens, piece), v + m * 32 * 8,
                        token + m * kTokens < tokens);
        fetched.next();
      }
      commit_copies();
      if (c < walk.first + kBehind) continue;
      wait_for_copies<kBehind>();
      memory.give(arrived.stage);
      arrived.next();
    }
  }
};

// Sixteen numbers of int8 to two pieces of bf16.
__device__ inline void widen_to(uint32_t first, uint32_t second, uint4 x) {
  const auto put = [](uint32_t to, uint2 a, uint2 b) {
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(a.x), "r"(a.y), "r"(b.x), "r"(b.y));
  };
  put(first, widened(x.x), widened(x.y));
  put(second, widened(x.z), widened(x.w));
}

// In int8 through registers, which have the next chunk under way while one is widened. What lies in them
// where a page is not there is of no weight.
template <int D>
struct Bringer<D, int8_t> {
  static constexpr int kPieces = D / 32, kOfToken = D / 16;  // of 16 bytes: a lane's, a token's
  static constexpr int kTokens = 32 / kOfToken, kLine = kPanelColumns * int{sizeof(bf16)};
  static __device__ void bring(Memory<D>& memory, const Pages<int8_t>& a, const Span& of, const Walk& walk,
                               int page, int lane, Turn& turn) {
    // Eight lanes have pieces of two tokens in one panel, on different banks.
    const int token = D == 128 ? lane / 4 % 2 + lane / 16 * 2 : lane / kOfToken;
    const int piece = D == 128 ? lane % 4 + lane / 8 % 2 * 4 : lane % kOfToken;
    const uint32_t to_k = shared_address(memory.chunks[0].k + Panels<D>::key(page, lane, 0)),
                   to_v =
                       shared_address(memory.chunks[0].v + Panels<D>::value(page * kPage + token, 2 * piece));
    const int32_t* table = a.tables[of.s];
    const int64_t head = of.kv * (D + int{sizeof(float)}) * kPage;
    const auto row_of = [&](int c) {
      const int begin = c * kKeys + page * kPage;
      return c <= walk.last && of.has_page(begin) ? table[begin / kPage] : -1;
    };
    uint4 k[kPieces] = {}, v[kPieces] = {};
    float scale = 0;
    const int8_t *next_k = a.k_pages.data + head, *next_v = a.v_pages.data + head;
    bool there = false;
    int row = row_of(walk.first);
    const auto begin = [&](int c) {  // its row is at hand, the one after it is asked for
      there = row >= 0;
      next_k = a.k_pages[there ? row : 0] + head, next_v = a.v_pages[there ? row : 0] + head;
      row = row_of(c + 1);
      scale = 0;
      if (there && lane % kPage < of.tokens_from(c * kKeys + page * kPage))
        scale = reinterpret_cast<const float*>((lane < kPage ? next_k : next_v) + D * kPage)[lane % kPage];
      next_k += lane * 16, next_v += (token * kOfToken + piece) * 16;
    };
    const auto load = [&](uint4& to, const int8_t* from, int m) {
      if (there) to = *reinterpret_cast<const uint4*>(from + m * 32 * 16);
    };
    begin(walk.first);
#pragma unroll
    for (int m = 0; m < kPieces; ++m) load(k[m], next_k, m), load(v[m], next_v, m);
    for (int c = walk.first; c <= walk.last; ++c, turn.next()) {
      wait(&memory.empty[turn.stage], turn.phase ^ 1);
      memory.scales[turn.stage][lane / kPage][page * kPage + lane % kPage] =
          lane < kPage ? a.scale * scale : scale;
      begin(c + 1);
      const auto stage = static_cast<uint32_t>(turn.stage) * uint32_t{sizeof(Panels<D>)};
#pragma unroll
      for (int m = 0; m < kPieces; ++m) {
        const uint32_t to = stage + to_k;
        const int down = m * 32 * kLine;
        widen_to(to + down, (to ^ 16) + down, k[m]);
        load(k[m], next_k, m);
      }
#pragma unroll
      for (int m = 0; m < kPieces; ++m) {
        // Four tokens on are half a group of eight lines, and swizzled otherwise.
        const uint32_t to = kTokens == 4 && m % 2 ? (stage + to_v) ^ (4 * kLine + 64) : stage + to_v;
        const int down = m * kTokens / 8 * 8 * kLine;
        widen_to(to + down, (to ^ 16) + down, v[m]);
        load(v[m], next_v, m);
      }
      memory.give(turn.stage);
    }
  }
};

}  // namespace flagscale::op::bringing
