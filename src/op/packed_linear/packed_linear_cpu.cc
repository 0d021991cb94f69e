// Floating formats. One row: bound by reading the weight once. Many rows: bound by multiplication; bf16 pairs
// are multiplied as pairs where the processor can and the caller lets x be rounded, else widened to fp32.
#include "op/packed_linear/drive_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

// Rows whose accumulators fit the registers: 12 x 2 of 32; 3 x 4 of 16; one at a time without vectors.
constexpr int kFloatRows = F32::kLanes == 16 ? 12 : F32::kLanes == 8 ? 3 : 1;

template <int N>
static inline void multiply_add(const float* x, int64_t x_row, const F32 (&w)[kVectors],
                                F32 (&sum)[N][kVectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < N; ++r) {
    const F32 xr = F32::set(x[r * x_row]);
#pragma GCC unroll 32
    for (int j = 0; j < kVectors; ++j) sum[r][j] = F32::fma(xr, w[j], sum[r][j]);
  }
}

// The even or odd element of each pair along k.
template <int kOdd>
static inline F32 of_pair(const BF16* p) {
#if defined(__AVX512F__)
  const __m512i v = _mm512_loadu_si512(p);
  return {_mm512_castsi512_ps(kOdd ? _mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000)))
                                   : _mm512_slli_epi32(v, 16))};
#elif defined(__AVX2__)
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_castsi256_ps(kOdd ? _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000)))
                                   : _mm256_slli_epi32(v, 16))};
#else
  return F32::load(p + kOdd);
#endif
}

static inline F32 element(const float* p) { return F32::load(p); }
static inline F32 element(const F16* p) { return load_halves(p); }

// W: float, F16 or BF16 (in pairs along k).
template <class W>
struct Float {
  static constexpr int kRows = kFloatRows;
  static constexpr int64_t kDepth = 512 / sizeof(W), kBufferBytes = 0;
  static int64_t strip(int64_t) { return kStrip; }
  const PackedLinearArgs& args;

  const W* slice(int64_t panel, int64_t k, int64_t, std::byte*) const {
    return reinterpret_cast<const W*>(args.packed.ptr<const uint8_t>() + panel * args.packed.dims[1]) +
           k * kPanel;
  }
  template <int N>
  void multiply(const W* w, int64_t row, int64_t k, int64_t n, Ahead, F32 (&sum)[N][kVectors]) const {
    const float* x = args.x.ptr<const float>() + row * args.x.row_stride() + k;
    const int64_t x_row = args.x.row_stride();
    F32 v[kVectors];
    for (int64_t i = 0; i < n; ++i, w += kPanel, ++x) {
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j) v[j] = element(w + j * F32::kLanes);
      multiply_add<N>(x, x_row, v, sum);
    }
  }
  F32 finish(int64_t, int64_t, int64_t, F32 sum) const { return sum; }
};

struct Pairs : Float<BF16> {  // bf16 lies in pairs along k
  template <int N>
  void multiply(const BF16* w, int64_t row, int64_t k, int64_t n, Ahead, F32 (&sum)[N][kVectors]) const {
    const float* x = args.x.ptr<const float>() + row * args.x.row_stride() + k;
    const int64_t x_row = args.x.row_stride();
    F32 v[kVectors];
    for (int64_t i = 0; i < n; i += 2, w += 2 * kPanel, x += 2) {
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j) v[j] = of_pair<0>(w + 2 * j * F32::kLanes);
      multiply_add<N>(x, x_row, v, sum);
      if (i + 1 == n) break;
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j) v[j] = of_pair<1>(w + 2 * j * F32::kLanes);
      multiply_add<N>(x + 1, x_row, v, sum);
    }
  }
};

#ifdef __AVX512BF16__
// x rounded to bf16, rows of an even number of elements.
struct Rounded {
  static constexpr int kRows = 12;
  static constexpr int64_t kDepth = 256, kBufferBytes = 0;
  static int64_t strip(int64_t) { return kStrip; }
  const PackedLinearArgs& args;
  const BF16* x;
  int64_t x_row;

  const BF16* slice(int64_t panel, int64_t k, int64_t, std::byte*) const {
    return reinterpret_cast<const BF16*>(args.packed.ptr<const uint8_t>() + panel * args.packed.dims[1]) +
           k * kPanel;
  }
  template <int N>
  void multiply(const BF16* w, int64_t row, int64_t k, int64_t n, Ahead, F32 (&sum)[N][kVectors]) const {
    const BF16* xk = x + row * x_row + k;
    for (int64_t i = 0; i < n; i += 2, w += 2 * kPanel, xk += 2) {
      const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 32);
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r) {
        int32_t pair;
        std::memcpy(&pair, xk + r * x_row, 4);
        const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
        sum[r][0].v = _mm512_dpbf16_ps(sum[r][0].v, both, reinterpret_cast<__m512bh>(w0));
        sum[r][1].v = _mm512_dpbf16_ps(sum[r][1].v, both, reinterpret_cast<__m512bh>(w1));
      }
    }
  }
  F32 finish(int64_t, int64_t, int64_t, F32 sum) const { return sum; }
};

void run_rounded(KernelContext& context, const PackedLinearArgs& args) {
  const int64_t in = args.x.cols(), row = (in + 1) / 2 * 2;
  BF16* const x = reinterpret_cast<BF16*>(context.workspace.data());
  const auto round = [&](int64_t r) {
    const float* from = args.x.ptr<const float>() + r * args.x.row_stride();
    for_lanes<F32>(in, [&](int64_t k, int64_t n) { F32::load_n(from + k, n).store_n(x + r * row + k, n); });
    if (row > in) put(x + r * row + in, 0.f);
  };
  const int64_t rows = args.x.rows();
  if (rows * in < 1 << 14)
    for (int64_t r = 0; r < rows; ++r) round(r);
  else
    context.team.for_each(rows, round, 8);
  const int64_t bytes = (args.x.dims[0] * row * 2 + 63) / 64 * 64;
  const Rounded kernel{args, x, row};
  Drive<Rounded>(args, kernel, context.workspace.data() + bytes).run(context);
}
#endif

template <class K>
void run_with(KernelContext& context, const PackedLinearArgs& args) {
  const K kernel{args};
  Drive<K>(args, kernel, context.workspace.data()).run(context);
}

void run_one(KernelContext& context, const PackedLinearArgs& args) {
#ifdef __AVX512BF16__
  if (args.narrow) return run_rounded(context, args);
#endif
  switch (args.packing) {
    case Packing::kF32:
      return run_with<Float<float>>(context, args);
    case Packing::kF16:
      return run_with<Float<F16>>(context, args);
    case Packing::kBF16:
      return run_with<Pairs>(context, args);
    default:
      return;
  }
}

void run(KernelContext& context, const PackedLinearArgs& args) {
  for_groups(args, [&](const PackedLinearArgs& one) { run_one(context, one); });
}

size_t workspace(const PackedLinearArgs& args, int threads) {
  const int64_t x = args.narrow ? (most_rows(args) * ((args.x.cols() + 1) / 2 * 2) * 2 + 63) / 64 * 64 : 0;
  return static_cast<size_t>(x + threads * kSumBytes);
}

const CpuKernel<PackedLinearArgs> kKernel{kPackedLinear, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
