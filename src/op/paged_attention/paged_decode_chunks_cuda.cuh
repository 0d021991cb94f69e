#pragma once
// How a block of decoding has chunks of keys and values brought to it, and multiplies them: copied by its
// threads, the next one while one is worked on, or, of an int8 cache on Hopper, by the copy engine, which is
// asked for the chunk after the next one.

#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_chunks_cuda.cuh"

namespace flagscale::op {

// Where chunks come from: a sequence's head of keys, of which chunks before `stop` are wanted.
template <class C>
struct Source {
  const Pages<C>& pages;
  const CUtensorMap& values;  // of the copy engine, of an int8 cache
  Span of;
  int stop;
  int warp, lane;
  int row = 0;  // of the page that the warp fetches next, where it asks the copy engine
};
// What a lane's two pairs of columns of a page are multiplied by.
struct Factors {
  float at[2][2];
};

// Of 16 columns of a product a lane has two pairs of neighbours in each of its rows: column(pair) on,
// first(sums, row, pair) and second().
struct WideProducts {
  static __device__ int column(int pair, int lane) { return pair * 8 + lane % 4 * 2; }
  static __device__ float& first(float (&sums)[2][4], int r, int pair) { return sums[pair][2 * r]; }
  static __device__ float& second(float (&sums)[2][4], int r, int pair) { return sums[pair][2 * r + 1]; }
  static __device__ Factors of_keys(int, int, int, float scale) { return {{{scale, scale}, {scale, scale}}}; }
};
// In int8 straight to registers: two bytes are what a matrix of ldmatrix takes for one number, so that each
// register holds a factor of the even columns and one of the odd ones.
struct NarrowProducts {
  static __device__ int column(int pair, int lane) { return lane % 4 * 4 + pair * 2; }
  static __device__ float& first(float (&sums)[2][4], int r, int pair) { return sums[0][2 * r + pair]; }
  static __device__ float& second(float (&sums)[2][4], int r, int pair) { return sums[1][2 * r + pair]; }
  static __device__ Factors factors(const float* of_page, int lane) {
    const float4 f = *reinterpret_cast<const float4*>(of_page + lane % 4 * 4);
    return {{{f.x, f.y}, {f.z, f.w}}};
  }
  static __device__ Factors factors(const float* of_page, int lane, float scale) {
    Factors f = factors(of_page, lane);
    for (auto& pair : f.at) pair[0] *= scale, pair[1] *= scale;
    return f;
  }
  static __device__ void multiply(float (&sums)[2][4], const cuda::Fragment& left, const uint4* line) {
    uint32_t r[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(cuda::shared_address(line)));
    cuda::multiply_add(sums[0], left, widened<0, 2>(r[0]), widened<0, 2>(r[1]));
    cuda::multiply_add(sums[1], left, widened<1, 3>(r[0]), widened<1, 3>(r[1]));
  }
  template <int D>
  static __device__ void score(float (&sums)[2][4], const cuda::Fragment (&q)[D / 16], const uint4* page,
                               int lane) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i) multiply(sums, q[i], page + i * 16 + lane % 16);
  }
  template <int D>
  static __device__ void mix(float (&sums)[2][4], const cuda::Fragment (&p)[kPages], const uint4* v,
                             int column, int lane) {
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      multiply(sums, p[i], v + NarrowChunks<D>::value(i * kPage + lane % 16, column / 16));
  }
};

// By the block's threads. start() with the first chunk, then for each begin(), met() once all threads have
// met after it, end().
template <int D, class C>
struct CopiedChunks : std::conditional_t<kScaled<C>, NarrowChunks<D>, Staging<D, C>>,
                      std::conditional_t<kScaled<C>, NarrowProducts, WideProducts> {
  static constexpr int kPlaces = 2;

  __device__ void start(Source<C>& from, int c) {
    this->fetch(0, from.pages, from.of, c);
    cuda::commit_copies();
  }
  __device__ void begin(const Source<C>& from, int c, int turn, int) {
    if (c + 1 < from.stop) this->fetch(turn ^ 1, from.pages, from.of, c + 1);
    cuda::commit_copies();
    if constexpr (kScaled<C>)
      this->wait();
    else
      this->arrived(turn);
  }
  __device__ void met(Source<C>&, int, int) {}
  __device__ void end() { __syncthreads(); }  // the chunk has been read

  __device__ void score(float (&sums)[2][4], const cuda::Fragment (&q)[D / 16], int turn, int page,
                        int lane) const {
    if constexpr (kScaled<C>)
      NarrowProducts::score<D>(sums, q, this->at[turn].k + page * D, lane);
    else
      multiply_page<D>(sums, q, this->chunks[turn].k, page, lane);
  }
  __device__ void mix(float (&sums)[2][4], const cuda::Fragment (&p)[kPages], int turn, int column,
                      int lane) const {
    if constexpr (kScaled<C>)
      NarrowProducts::mix<D>(sums, p, this->at[turn].v, column, lane);
    else
      mix_columns<D>(sums, p, this->chunks[turn].v, column, lane);
  }
  // Of the keys of a page and their values.
  __device__ Factors of_keys(int turn, int page, int lane, float scale) const {
    if constexpr (kScaled<C>)
      return this->factors(this->at[turn].k_scale + page * kPage, lane, scale);
    else
      return WideProducts::of_keys(turn, page, lane, scale);
  }
  __device__ Factors of_values(int turn, int page, int lane) const {
    return this->factors(this->at[turn].v_scale + page * kPage, lane);
  }
};

// By the copy engine, a page a warp. What is no key of the sequence is whatever lies there: numbers, but its
// scales may be none.
template <int D>
struct BulkChunks : NarrowProducts {
  static_assert(kWarps == kPages);
  static constexpr int kPlaces = 3;
  static constexpr int kHead =
      D + int{sizeof(float)};  // pieces of 16 bytes of a page's keys with their scales

  uint4 v[kPlaces][kPages * D];  // on a boundary of 1 kB
  uint4 k[kPlaces][kPages * kHead];
  float v_scale[kPlaces][kKeys];
  cuda::Barrier full[kPlaces];

  __device__ void start(Source<int8_t>& from, int c) {
#ifdef FLAGSCALE_HOPPER
    if (threadIdx.x == 0) {
      for (cuda::Barrier& b : full) cuda::init_barrier(&b, kWarps);
      cuda::show_barriers();
    }
    __syncthreads();
    look_up(from, c);
    for (int i = 0; i + 1 < kPlaces; ++i) fetch(from, c + i, i);
#else
    __trap();
#endif
  }
  __device__ void begin(const Source<int8_t>&, int, int turn, int phase) {
#ifdef FLAGSCALE_HOPPER
    cuda::wait(&full[turn], phase);
#endif
  }
  // All have read the chunk before this one.
  __device__ void met(Source<int8_t>& from, int c, int turn) {
#ifdef FLAGSCALE_HOPPER
    fetch(from, c + kPlaces - 1, turn == 0 ? kPlaces - 1 : turn - 1);
#endif
  }
  __device__ void end() {}

  __device__ void score(float (&sums)[2][4], const cuda::Fragment (&q)[D / 16], int turn, int page,
                        int lane) const {
    NarrowProducts::score<D>(sums, q, k[turn] + page * kHead, lane);
  }
  __device__ void mix(float (&sums)[2][4], const cuda::Fragment (&p)[kPages], int turn, int column,
                      int lane) const {
    NarrowProducts::mix<D>(sums, p, v[turn], column, lane);
  }
  __device__ Factors of_keys(int turn, int page, int lane, float scale) const {
    return factors(reinterpret_cast<const float*>(k[turn] + page * kHead + D), lane, scale);
  }
  __device__ Factors of_values(int turn, int page, int lane) const {
    return factors(v_scale[turn] + page * kPage, lane);
  }

 private:
#ifdef FLAGSCALE_HOPPER
  // Of the warp's page of chunk c, by its first thread.
  static __device__ void look_up(Source<int8_t>& from, int c) {
    const int page = c * kPages + from.warp;
    if (from.lane == 0 && from.of.has_page(page * kPage)) from.row = from.pages.tables[from.of.s][page];
  }
  __device__ void fetch(Source<int8_t>& from, int c, int place) {
    if (from.lane != 0 || c >= from.stop) return;
    constexpr int kPiece = sizeof(uint4), kScales = kPage * int{sizeof(float)};
    const bool there = from.of.has_page((c * kPages + from.warp) * kPage);
    cuda::arrive_for_bytes(&full[place], there ? (kHead + D) * kPiece + kScales : 0);
    if (there) {
      const int64_t head = from.of.kv * kHead * kPiece;
      cuda::copy_bytes(k[place] + from.warp * kHead, from.pages.k_pages[from.row] + head, kHead * kPiece,
                       &full[place]);
      cuda::copy_lines(v[place] + from.warp * D, from.values, from.row, static_cast<int>(from.of.kv),
                       &full[place]);
      cuda::copy_bytes(v_scale[place] + from.warp * kPage, from.pages.v_pages[from.row] + head + D * kPiece,
                       kScales, &full[place]);
    }
    look_up(from, c + 1);
  }
#endif
};

}  // namespace flagscale::op
