// One query of each of many sequences over pages of int8, on Hopper: a warp takes a head of keys of a
// sequence with all heads that share it, walks its chunks and folds them, and meets nobody. What it
// multiplies keys and values by stays in its registers: they are left factors, of 16 keys by 16 numbers or 16
// columns by 16 keys, and weights come out of one product as they go into the next one, but transposed. A
// chunk's keys give way to the next one's while its values are worked on, and values to values. The
// operations on a row are those of paged_decode_cuda.cu; of a product's 16 neighbours the order is no matter.
// Bound by memory.
#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/warpgroup.cuh"
#include "op/paged_attention/paged_chunks_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kPiece = sizeof(uint4);
// Of a warp where a multiprocessor has eight. Twelve would fit with heads of 128, but eight keep the memory
// as busy, and their last ones are fewer.
constexpr size_t kOfEight = size_t{26} << 10;

// A chunk, and where the copy engine says that it has come.
template <int D>
struct WarpMemory {
  static constexpr int kHead = D + int{sizeof(float)};  // pieces of a page's keys with their scales
  uint4 v[kPages * D];
  uint4 k[kPages * kHead];
  float v_scale[kKeys];
  Barrier keys, values;
};

#ifdef FLAGSCALE_HOPPER
__device__ uint32_t transposed(uint32_t eight_by_eight) {
  uint32_t r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(eight_by_eight));
  return r;
}

// A sequence's head of keys, of which chunks before `stop` are wanted. Each of a warp's first threads asks
// the copy engine for a page of a chunk. What is no key of the sequence is whatever lies there.
template <int D>
struct WarpChunks {
  WarpMemory<D>& to;
  const Pages<int8_t>& pages;
  const CUtensorMap& lines;  // of values
  const Span of;
  const int stop, lane;
  int row = 0;  // of the page that the thread fetches next
  bool there = false;

  __device__ void init() {
    if (lane == 0) {
      init_barrier(&to.keys, kPages), init_barrier(&to.values, kPages);
      show_barriers();
    }
    __syncwarp();
  }
  __device__ void look_up(int c) {
    const int page = c * kPages + lane;
    there = lane < kPages && of.has_page(page * kPage);
    if (there) row = pages.tables[of.s][page];
  }
  __device__ int64_t head() const { return int64_t{of.kv} * WarpMemory<D>::kHead * kPiece; }
  __device__ void fetch_keys(int c) {
    if (c >= stop || lane >= kPages) return;
    constexpr int kBytes = WarpMemory<D>::kHead * kPiece;
    arrive_for_bytes(&to.keys, there ? kBytes : 0);
    if (there) copy_bytes(to.k + lane * WarpMemory<D>::kHead, pages.k_pages[row] + head(), kBytes, &to.keys);
  }
  __device__ void fetch_values(int c) {
    if (c >= stop || lane >= kPages) return;
    constexpr int kScales = kPage * int{sizeof(float)};
    arrive_for_bytes(&to.values, there ? D * kPiece + kScales : 0);
    if (!there) return;
    copy_lines(to.v + lane * D, lines, row, of.kv, &to.values);
    copy_bytes(to.v_scale + lane * kPage, pages.v_pages[row] + head() + D * kPiece, kScales, &to.values);
  }
};

// Lines of two pages, brought by eight at a time: those of the page for j = 0, of the next one for 1. A pair
// of neighbours in a line gives a row of the left factor and the one eight further on.
struct LeftFactors {
  uint32_t r[4];
  __device__ explicit LeftFactors(const uint4* line) {
    load_matrices_transposed(r, reinterpret_cast<const bf16*>(line));
  }
  __device__ void operator()(Fragment& left, int j) const {
    left[0] = widened<0, 2>(r[2 * j]), left[1] = widened<1, 3>(r[2 * j]);
    left[2] = widened<0, 2>(r[2 * j + 1]), left[3] = widened<1, 3>(r[2 * j + 1]);
  }
};
#endif

// A warp a head of keys (x) and a sequence (y). Of a page a lane has keys 2 (lane / 4) and the next one, of
// heads 2 (lane % 4) and the next one: [key][head], one row of a sum after the other.
template <int D, int kHalves>
__global__ void __launch_bounds__(32, kHalves == 1 ? 12 : 8)
    walk_chunks(const __grid_constant__ CUtensorMap values, Pages<int8_t> a) {
#ifdef FLAGSCALE_HOPPER
  let_next_start();
  wait_for_previous();
  const int s = static_cast<int>(blockIdx.y), kv = static_cast<int>(blockIdx.x), end = a.context_lens[s],
            lane = static_cast<int>(threadIdx.x);
  if (a.queries(s) != 1) return;
  extern __shared__ uint4 shared[];
  auto& memory = *reinterpret_cast<WarpMemory<D>*>(shared + to_boundary(shared) / kPiece);
  const Span of{s, kv, static_cast<int>(a.first_key(end - 1)), end};
  int c = of.first / kKeys;
  WarpChunks<D> chunks{memory, a, values, of, (end - 1) / kKeys + 1, lane};
  chunks.init();
  chunks.look_up(c);
  chunks.fetch_keys(c);
  chunks.fetch_values(c);
  chunks.look_up(c + 1);
  const int group = a.heads / a.kv_heads;
  Fragment q[D / 16];
  const bf16* row = a.q[a.cu_seqlens[s]] + kv * group * D;
  load_queries<D>(q, [&](int i) { return i < group ? row + i * D : nullptr; }, lane);
  float most[kHalves][2], sum[kHalves][2] = {}, mix[D / 16][kHalves][4] = {};
#pragma unroll
  for (auto& half : most) half[0] = half[1] = -INFINITY;
  const uint4* keys = memory.k + lane / 16 * WarpMemory<D>::kHead + lane % 16;
  // Key 2 j, then 2 j + 1, of the four first j of eight, of the others the other way round: on all banks.
  const bool other = lane % 4 >= 2;
  const int key = lane / 16 * kPage + lane % 8 * 2 + (lane / 8 + lane / 4) % 2;
  for (int phase = 0; c < chunks.stop; ++c, phase ^= 1) {
    const int seen = end - c * kKeys, unseen = of.first - c * kKeys;  // from, before
    const bool whole = seen >= kKeys && unseen <= 0;
    const auto is_seen = [&](int page, int i) {
      const int at = page * kPage + lane / 4 * 2 + i;
      return at >= unseen && at < seen;
    };
    float score[kPages][kHalves][4] = {};
    wait(&memory.keys, phase);
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
#pragma unroll
      for (int page = 0; page < kPages; page += 2) {
        const LeftFactors lines(keys + page * WarpMemory<D>::kHead + i * 16);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Fragment left;
          lines(left, j);
#pragma unroll
          for (int h = 0; h < kHalves; ++h) multiply_add(score[page + j][h], left, q[i][h], q[i][h + 2]);
        }
      }
    float here[kHalves][2];
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const float2 scales = *reinterpret_cast<const float2*>(
          reinterpret_cast<const float*>(memory.k + page * WarpMemory<D>::kHead + D) + lane / 4 * 2);
      const float factors[2] = {scales.x * a.scale, scales.y * a.scale};
#pragma unroll
      for (int h = 0; h < kHalves; ++h)
#pragma unroll
        for (int j = 0; j < 4; ++j) score[page][h][j] = __fmul_rn(score[page][h][j], factors[j / 2]);
    }
    __syncwarp();  // keys have been read
    chunks.fetch_keys(c + 1);
    if (!whole) {
#pragma unroll
      for (int page = 0; page < kPages; ++page)
#pragma unroll
        for (int h = 0; h < kHalves; ++h)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            if (!is_seen(page, j / 2)) score[page][h][j] = -INFINITY;
    }
#pragma unroll
    for (int h = 0; h < kHalves; ++h)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& x = here[h][j];
        x = fmaxf(score[0][h][j], score[0][h][j + 2]);
#pragma unroll
        for (int page = 1; page < kPages; ++page)
          x = fmaxf(x, fmaxf(score[page][h][j], score[page][h][j + 2]));
#pragma unroll
        for (int step = 4; step < 32; step *= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
      }
    wait(&memory.values, phase);
    uint32_t p[kPages][kHalves][2];
    float ones[kHalves][4] = {};
    const Fragment all_ones{kOnes, kOnes, kOnes, kOnes};
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      float2 scales = *reinterpret_cast<const float2*>(memory.v_scale + page * kPage + lane / 4 * 2);
      if (!whole) {  // the scale of what is no key may be no number
        if (!is_seen(page, 0)) scales.x = 0;
        if (!is_seen(page, 1)) scales.y = 0;
      }
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
        float(&w)[4] = score[page][h];
#pragma unroll
        for (int j = 0; j < 4; ++j) w[j] = weight_of(w[j], base_of(here[h][j % 2]));
        multiply_add(ones[h], all_ones, transposed(pair_of(w[0], w[1])), transposed(pair_of(w[2], w[3])));
        const uint32_t even = transposed(pair_of(w[0] * scales.x, w[1] * scales.x)),
                       odd = transposed(pair_of(w[2] * scales.y, w[3] * scales.y));
        p[page][h][0] = other ? odd : even, p[page][h][1] = other ? even : odd;
      }
    }
    float keep[kHalves][2], take[kHalves][2];
#pragma unroll
    for (int h = 0; h < kHalves; ++h)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const Fold fold(most[h][j], here[h][j]);
        sum[h][j] = fold(sum[h][j], ones[h][j]);
        keep[h][j] = fold.keep, take[h][j] = fold.take;
      }
#pragma unroll
    for (int m = 0; m < D / 16; ++m) {
      float mixed[kHalves][4] = {};
#pragma unroll
      for (int page = 0; page < kPages; page += 2) {
        const LeftFactors lines(memory.v + NarrowChunks<D>::value(page * kPage + key, m));
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Fragment left;
          lines(left, j);
#pragma unroll
          for (int h = 0; h < kHalves; ++h)
            multiply_add(mixed[h], left, p[page + j][h][0], p[page + j][h][1]);
        }
      }
#pragma unroll
      for (int h = 0; h < kHalves; ++h)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          mix[m][h][j] = folded(mix[m][h][j], keep[h][j % 2], mixed[h][j], take[h][j % 2]);
    }
    __syncwarp();  // values have been read
    chunks.fetch_values(c + 1);
    chunks.look_up(c + 2);
  }
  bf16* out = a.out[a.cu_seqlens[s]] + kv * group * D + lane / 4 * 2;
#pragma unroll
  for (int h = 0; h < kHalves; ++h)
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if (const int head = h * 8 + lane % 4 * 2 + j; head < group) {
        const float share = share_of(sum[h][j]);
#pragma unroll
        for (int m = 0; m < D / 16; ++m)
          *reinterpret_cast<uint32_t*>(out + head * D + m * 16) =
              pair_of(mix[m][h][j] * share, mix[m][h][j + 2] * share);
      }
#else
  __trap();
#endif
}

template <int D, int kHalves>
void launch_warps(const Pages<int8_t>& a, const PagedAttentionArgs& args, int64_t sequences) {
  constexpr auto* kKernel = walk_chunks<D, kHalves>;
  constexpr size_t kLeast = sizeof(WarpMemory<D>) + kBoundary, kBytes = D == 128 ? kOfEight : kLeast;
  static_assert(kBytes >= kLeast);
  static const bool once = (allow_shared("paged_attention", kKernel, kBytes), true);
  (void)once;
  const TensorView& v = args.v_pages;
  launch_early(kKernel, dim3(static_cast<unsigned>(a.kv_heads), static_cast<unsigned>(sequences)), 32, kBytes,
               lines_of_pages(v.data, v.dims[0], v.row_stride(), a.kv_heads,
                              int64_t{WarpMemory<D>::kHead} * kPiece, kPage, D),
               a);
}

}  // namespace

void decode_by_warps(const Pages<int8_t>& pages, const PagedAttentionArgs& args) {
  for_head_dim(args.shape.head_dim, [&](auto dim) {
    const bool half = pages.heads <= 8 * pages.kv_heads;
    half ? launch_warps<dim(), 1>(pages, args, sequences_of(args))
         : launch_warps<dim(), 2>(pages, args, sequences_of(args));
  });
}

}  // namespace flagscale::op
