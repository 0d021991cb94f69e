#pragma once
// Chunks of keys and values of one head on their way from pages to tensor cores: copied asynchronously into
// one of two places in turn and, where pages are int8, widened from there. Numbers of int8 are whole in bf16;
// their tokens' scales are applied where sums of a token are at hand (scores), or its weight (values).

#include "op/paged_attention/paged_rows_cuda.cuh"

namespace flagscale::op {

// What a chunk's products read: where 8 tokens of line d of a page's keys, swizzled so that 8 lines fall on
// different banks, and 8 numbers of a token's values lie.
template <int D>
struct TileLayout {
  static constexpr int kValues = kKeys * cuda::kPitchOf<D>;
  static __device__ int key(int page, int d, int half) {
    return page * D * kPage + d * kPage + (half ^ (d >> 2 & 1)) * 8;
  }
  static __device__ int value(int token, int piece) { return token * cuda::kPitchOf<D> + piece * 8; }
};

template <int D>
struct alignas(16) Chunk {
  cuda::bf16 k[kKeys * D];
  cuda::bf16 v[TileLayout<D>::kValues];
};

constexpr unsigned kBoundary = 1024;  // of what the copy engine swizzles
__device__ inline unsigned to_boundary(const void* memory) {
  return (kBoundary - cuda::shared_address(memory) % kBoundary) % kBoundary;
}

template <int kPieces>  // that a block's threads copy
constexpr int kTurns = (kPieces + kThreads - 1) / kThreads;

// Which keys of a sequence's head are fetched: pages without a key in [first, end) are not looked at, and
// tokens from `end` on are zeros among the values: nothing times what was never written is not nothing.
struct Span {
  int s, kv, first, end;
  __device__ bool has_page(int begin) const { return begin < end && begin + kPage > first; }
  __device__ int tokens_from(int begin) const {  // of a page or chunk that begins there
    return end - begin < kKeys ? end - begin : kKeys;
  }
};

template <int D, class C>
struct Staging;

template <int D>
struct Staging<D, cuda::bf16> {
  using At = TileLayout<D>;
  Chunk<D> chunks[2];

  // Starts copying chunk c.
  __device__ void fetch(int turn, const Pages<cuda::bf16>& a, const Span& of, int c) {
    Chunk<D>& to = chunks[turn];
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const int begin = c * kKeys + page * kPage, head = of.kv * D * kPage;
      const bool there = of.has_page(begin);
      const int64_t row = there ? a.tables[of.s][begin / kPage] : 0;
      const int tokens = of.tokens_from(begin);
      const cuda::bf16 *k = a.k_pages[row] + head, *v = a.v_pages[row] + head;
#pragma unroll
      for (int m = 0; m < kTurns<D * 2>; ++m) {  // pieces of 16 bytes
        const int i = m * kThreads + static_cast<int>(threadIdx.x), token = i / (D / 8);
        if (D * 2 % kThreads != 0 && i >= D * 2) break;
        cuda::copy_16_bytes(to.k + At::key(page, i / 2, i % 2), k + i * 8, there);
        cuda::copy_16_bytes(to.v + At::value(page * kPage + token, i % (D / 8)), v + i * 8,
                            there && token < tokens);
      }
    }
  }
  // Waits for it, with all threads; the one that was begun after it may still be under way.
  __device__ const Chunk<D>& arrived(int turn) {
    cuda::wait_for_copies<1>();
    __syncthreads();
    return chunks[turn];
  }
  __device__ float scored(int, int, float score, float scale) const { return __fmul_rn(score, scale); }
  // Weights of a page's keys as a left factor: with their values' scales in p, where they have any.
  __device__ void weigh(int, int, cuda::Fragment&, const float (&)[4], const float (&)[4], int) const {}
};

__device__ inline uint32_t masked_or(uint32_t x, uint32_t mask, uint32_t bits) {  // one instruction
  uint32_t r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(x), "r"(mask), "r"(bits));
  return r;
}

// Bytes kFirst and kSecond of four numbers of int8 as a pair of bf16: with the sign's bit apart they are 128
// + 0 to 127, less 128 or 256.
template <uint32_t kFirst, uint32_t kSecond>
__device__ uint32_t widened(uint32_t four) {
  constexpr bool kEven = kFirst == 0 && kSecond == 2, kOdd = kFirst == 1 && kSecond == 3;
  const uint32_t x = kEven ? four : kOdd ? four >> 8 : __byte_perm(four, 0, 0x4040 | kSecond << 8 | kFirst);
  const uint32_t low = masked_or(x, 0x007f007f, 0x43004300), off = masked_or(x, 0x00800080, 0x43004300);
  const __nv_bfloat162 r =
      __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&low), *reinterpret_cast<const __nv_bfloat162*>(&off));
  return *reinterpret_cast<const uint32_t*>(&r);
}
__device__ inline uint2 widened(uint32_t four) { return {widened<0, 1>(four), widened<2, 3>(four)}; }
__device__ inline void widen_16(uint4 x, cuda::bf16* first, cuda::bf16* second) {
  const uint2 a = widened(x.x), b = widened(x.y), c = widened(x.z), d = widened(x.w);
  *reinterpret_cast<uint4*>(first) = {a.x, a.y, b.x, b.y};
  *reinterpret_cast<uint4*>(second) = {c.x, c.y, d.x, d.y};
}

// Two chunks of int8 in turn, as in pages but for values' pieces of 16, swizzled so that those of 8 tokens
// fall on different banks (of 4, where head_dim is 96).
template <int D>
struct NarrowChunks {
  static constexpr int kPieces = D / 16;  // of a token's values
  struct alignas(16) {
    uint4 k[kPages * D], v[kPages * D];
    float k_scale[kKeys], v_scale[kKeys];
  } at[2];

  static __device__ int value(int token, int piece) {
    const int swizzled = D == 128 ? piece ^ token % 8 : D == 64 ? piece ^ token / 2 % 4 : piece;
    return token * kPieces + swizzled;
  }
  __device__ void fetch(int turn, const Pages<int8_t>& a, const Span& of, int c) {
    auto& to = at[turn];
    const int head = of.kv * (D + int{sizeof(float)}) * kPage;
    const auto thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const int begin = c * kKeys + page * kPage;
      const bool there = of.has_page(begin);
      const int64_t row = there ? a.tables[of.s][begin / kPage] : 0;
      const int8_t *k = a.k_pages[row] + head, *v = a.v_pages[row] + head;
#pragma unroll
      for (int m = 0; m < kTurns<D>; ++m) {  // pieces of 16 bytes
        const int i = m * kThreads + thread;
        if (D % kThreads != 0 && i >= D) break;
        cuda::copy_16_bytes(to.k + page * D + i, k + i * 16, there);
        cuda::copy_16_bytes(to.v + value(page * kPage + i / kPieces, i % kPieces), v + i * 16, there);
      }
      if (thread < kPage / 4) {
        constexpr int kScale = sizeof(float);
        const int left = there ? of.tokens_from(begin) - thread * 4 : 0, scales = left < 0   ? 0
                                                                                  : left < 4 ? left
                                                                                             : 4;
        cuda::copy_part_of_16(to.k_scale + page * kPage + thread * 4, k + (D + thread) * 16, scales * kScale);
        cuda::copy_part_of_16(to.v_scale + page * kPage + thread * 4, v + (D + thread) * 16, scales * kScale);
      }
    }
  }
  __device__ void wait() {
    cuda::wait_for_copies<1>();
    __syncthreads();
  }
  __device__ float scored(int turn, int key, float score, float scale) const {
    return __fmul_rn(score, scale * at[turn].k_scale[key]);
  }
  __device__ float weighed(int turn, int key, float weight) const { return weight * at[turn].v_scale[key]; }
};

template <int D>
struct Staging<D, int8_t> : NarrowChunks<D> {
  using At = TileLayout<D>;
  Chunk<D> chunk;

  __device__ const Chunk<D>& arrived(int turn) {
    this->wait();
    const auto& from = this->at[turn];
    for (int i = static_cast<int>(threadIdx.x); i < kPages * D; i += kThreads) {
      const int page = i / D, d = i % D, token = i / this->kPieces, piece = i % this->kPieces;
      widen_16(from.k[i], chunk.k + At::key(page, d, 0), chunk.k + At::key(page, d, 1));
      widen_16(from.v[this->value(token, piece)], chunk.v + At::value(token, 2 * piece),
               chunk.v + At::value(token, 2 * piece + 1));
    }
    __syncthreads();
    return chunk;
  }
  __device__ void weigh(int turn, int page, cuda::Fragment& p, const float (&first)[4],
                        const float (&second)[4], int lane) const {
    const int key = page * kPage + lane % 4 * 2;
    float with[2][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      with[0][j] = this->weighed(turn, key + j % 2, first[j]);
      with[1][j] = this->weighed(turn, key + 8 + j % 2, second[j]);
    }
    cuda::as_left(p, with[0], with[1]);
  }
};

// Products of 16 rows and the keys of one page, whose lines lie as TileLayout says.
template <int D>
__device__ void multiply_page(float (&score)[2][4], const cuda::Fragment (&q)[D / 16], const cuda::bf16* k,
                              int page, int lane) {
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    uint32_t b[4];
    cuda::load_matrices_transposed(b, k + TileLayout<D>::key(page, i * 16 + lane % 16, lane / 16));
    cuda::multiply_add(score[0], q[i], b[0], b[1]);
    cuda::multiply_add(score[1], q[i], b[2], b[3]);
  }
}
// 16 columns from `column` of weights p times a chunk's values, which lie as TileLayout says.
template <int D>
__device__ void mix_columns(float (&mixed)[2][4], const cuda::Fragment (&p)[kPages], const cuda::bf16* v,
                            int column, int lane) {
#pragma unroll
  for (int i = 0; i < kPages; ++i) {
    uint32_t b[4];
    cuda::load_right_transposed(b, v, cuda::kPitchOf<D>, i * kPage, column, lane);
    cuda::multiply_add(mixed[0], p[i], b[0], b[1]);
    cuda::multiply_add(mixed[1], p[i], b[2], b[3]);
  }
}

}  // namespace flagscale::op
