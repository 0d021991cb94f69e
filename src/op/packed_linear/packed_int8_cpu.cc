// Integer formats in integers. x is quantised by row and group of 32: scale = largest magnitude / 127. In a
// group the products are summed exactly; groups are combined in fp32 in order, each as
//   sum = fma(integers * x_scale, weight_scale, sum), then, with offsets, sum = fma(x_scale * (sum of x),
//   offset, sum)
// and then the row's outliers (quantised_simd.h) times their weights in order.
#include "op/packed_linear/drive_simd.h"
#include "op/packed_linear/quantised_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr int kTallest = F32::kLanes == 16 ? 6 : F32::kLanes == 8 ? 2 : 1;

template <class F>
struct Integers {
  static constexpr int kRows = kTallest;
  static constexpr int kWide = F32::kLanes == 1 ? 4 : 2;  // vectors of outputs at once
  static constexpr int64_t kDepth = 512, kBufferBytes = 0;
  const PackedLinearArgs& args;
  Quantised<F::kParts> x;

  // Half of them stay in L2 while the panels go by.
  static int64_t strip(int64_t depth) { return depth > 2048 ? kStrip / 2 : kStrip; }

  const uint8_t* slice(int64_t panel, int64_t k, int64_t, std::byte*) const {
    return args.packed.ptr<const uint8_t>() + panel * args.packed.dims[1] + F::kHeadBytes +
           k / F::kBlock * F::kBlockBytes;
  }
  F32 finish(int64_t panel, int64_t row, int64_t n, F32 sum) const {
    const uint8_t* const base = args.packed.ptr<const uint8_t>() + panel * args.packed.dims[1];
    if constexpr (F::kRowScale) sum = sum * F32::load(reinterpret_cast<const float*>(base) + n);
    for (const Outlier& outlier : x.outliers(row))
      sum = F32::fma(F32::set(outlier.value), weights(base, outlier.k, n), sum);
    return sum;
  }

  template <int N>
  void multiply(const uint8_t* block, int64_t row, int64_t k, int64_t n, Ahead ahead,
                F32 (&sum)[N][kVectors]) const {
    const int64_t g = k / kGroup, end = (k + n + kGroup - 1) / kGroup;
    for (int v = 0; v < kVectors; v += kWide) {
      F32 part[N][kWide];
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < kWide; ++j) part[r][j] = sum[r][v + j];
      outputs<N>(block, x.tile(row, N, g), end - g, v * F32::kLanes, ahead, part);
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < kWide; ++j) sum[r][v + j] = part[r][j];
    }
  }

 private:
  // Element k of the outputs from n on.
  static F32 weights(const uint8_t* panel, int64_t k, int64_t n) {
    const uint8_t* const block = panel + F::kHeadBytes + k / F::kBlock * F::kBlockBytes;
    const int64_t g = k % F::kBlock / kGroup, part = g * F::kParts + k % kGroup * F::kParts / kGroup;
    const F32 q = F::Elements::numbers(F::group(block, g), n, static_cast<int>(k % kGroup));
    if constexpr (F::kMin)
      return F32::fma(F::Scales::template scale<F32>(block, part, n), q,
                      F::Scales::template offset<F32>(block, part, n));
    const F32 centred = q - F32::set(static_cast<float>(F::kZero));
    if constexpr (F::kRowScale)
      return F32::load(reinterpret_cast<const float*>(panel) + n) * centred;
    else
      return F::Scales::template scale<F32>(block, part, n) * centred;
  }

  // `left` groups of the outputs from n on.
  template <int N>
  [[gnu::always_inline]] void outputs(const uint8_t* block, const std::byte* xs, int64_t left, int64_t n,
                                      Ahead ahead, F32 (&sum)[N][kWide]) const {
    [[maybe_unused]] const auto lines =
        static_cast<int32_t>((ahead.end - ahead.next) / 64 + left) / static_cast<int32_t>(left);
    for (; left > 0; block += F::kBlockBytes)
      for (int64_t i = 0; i < F::kGroups && left > 0;
           ++i, --left, xs += Quantised<F::kParts>::group_bytes(N)) {
        if constexpr (N > 1 || F::kBelow128)
          for (int32_t line = 0; line < lines && ahead.next < ahead.end; ++line, ahead.next += 64)
            __builtin_prefetch(ahead.next, 0, 2);
        else
          fetch_far(block, i);
        const uint8_t* const bits = F::group(block, i);
        part<N, 0>(bits, block, i, xs, n, sum);
        if constexpr (F::kParts == 2) part<N, 1>(bits, block, i, xs, n, sum);
      }
  }

  // One row of bytes: a page ahead is better than the next panel, which is the better of the two for fewer
  // bits.
  static void fetch_far(const uint8_t* block, int64_t group) {
    constexpr int64_t kStride = F::kBlockBytes / F::kGroups;
    const uint8_t* const far = block + 4096 + group * kStride;
#pragma GCC unroll 32
    for (int64_t byte = 0; byte < kStride; byte += 64) __builtin_prefetch(far + byte, 0, 3);
  }

  // Part kPart of group i of a block.
  template <int N, int kPart>
  [[gnu::always_inline]] void part(const uint8_t* bits, const uint8_t* block, int64_t i, const std::byte* xs,
                                   int64_t n, F32 (&sum)[N][kWide]) const {
    const auto* const q = reinterpret_cast<const int8_t*>(xs);
    const auto* const starts = reinterpret_cast<const int32_t*>(xs + N * (kGroup + 8));
    Ints dots[N][kWide];
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
      const Ints start = Ints::set(F::kZero == 0 ? 0 : starts[r * F::kParts + kPart]);
#pragma GCC unroll 4
      for (int j = 0; j < kWide; ++j) dots[r][j] = start;
    }
    if constexpr (F::kParts == 1 || kPart == 0) {
      step<N, 0>(bits, q, n, dots), step<N, 1>(bits, q, n, dots), step<N, 2>(bits, q, n, dots),
          step<N, 3>(bits, q, n, dots);
    }
    if constexpr (F::kParts == 1 || kPart == 1) {
      step<N, 4>(bits, q, n, dots), step<N, 5>(bits, q, n, dots), step<N, 6>(bits, q, n, dots),
          step<N, 7>(bits, q, n, dots);
    }
    combine<N, kPart>(block, i, reinterpret_cast<const float*>(xs + N * kGroup), n, dots, sum);
  }

  template <int N, int kStep>
  [[gnu::always_inline]] void step(const uint8_t* bits, const int8_t* q, int64_t n,
                                   Ints (&dots)[N][kWide]) const {
    Bytes w[kWide];
#pragma GCC unroll 4
    for (int j = 0; j < kWide; ++j) w[j] = F::Elements::template step<kStep>(bits, n + j * F32::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
      const Bytes xs = Bytes::set4(q + r * kGroup + 4 * kStep);
#pragma GCC unroll 4
      for (int j = 0; j < kWide; ++j) dots[r][j] = Ints::template dot<F::kBelow128>(w[j], xs, dots[r][j]);
    }
  }

  // scales: of the tile's rows, then their scaled sums.
  template <int N, int kPart>
  [[gnu::always_inline]] void combine(const uint8_t* block, int64_t i, const float* scales, int64_t n,
                                      Ints (&dots)[N][kWide], F32 (&sum)[N][kWide]) const {
#pragma GCC unroll 4
    for (int j = 0; j < kWide; ++j) {
      F32 scale = F32::zero(), offset = F32::zero();
      if constexpr (!F::kRowScale) {
        scale = F::Scales::template scale<F32>(block, i * F::kParts + kPart, n + j * F32::kLanes);
        offset = F::Scales::template offset<F32>(block, i * F::kParts + kPart, n + j * F32::kLanes);
      }
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r) {
        const F32 x_scale = F32::set(scales[r]);
        if constexpr (F::kRowScale)
          sum[r][j] = F32::fma(dots[r][j].to_float(), x_scale, sum[r][j]);
        else
          sum[r][j] = F32::fma(dots[r][j].to_float() * x_scale, scale, sum[r][j]);
        if constexpr (F::kMin) sum[r][j] = F32::fma(F32::set(scales[N + r]), offset, sum[r][j]);
      }
    }
  }
};

template <int kParts>
void quantise(KernelContext& context, const PackedLinearArgs& args, const Quantised<kParts>& x) {
  const int64_t in = args.x.cols();
  const Tiles tiles(args.x.rows(), kTallest);
  const auto tile = [&](int64_t t) {
    const int64_t first = tiles.first(t), n = tiles.first(t + 1) - first;
    for (int64_t r = 0; r < n; ++r)
      x.row(first, n, r, args.x.ptr<const float>() + (first + r) * args.x.row_stride());
  };
  if (tiles.rows * in < 1 << 14)
    for (int64_t t = 0; t < tiles.count; ++t) tile(t);
  else
    context.team.for_each(tiles.count, tile);
}

void run_one(KernelContext& context, const PackedLinearArgs& args) {
  for_format(args.packing, [&]<class F>(F) {
    const int64_t in = args.x.cols();
    const Quantised<F::kParts> x(context.workspace.data(), args.x.dims[0], in, F::kZero);
    quantise(context, args, x);
    const Integers<F> kernel{args, x};
    Drive<Integers<F>>(args, kernel, context.workspace.data() + x.bytes(args.x.dims[0], in)).run(context);
  });
}

void run(KernelContext& context, const PackedLinearArgs& args) {
  for_groups(args, [&](const PackedLinearArgs& one) { run_one(context, one); });
}

size_t workspace(const PackedLinearArgs& args, int threads) {
  int64_t bytes = 0;
  for_format(args.packing,
             [&]<class F>(F) { bytes = Quantised<F::kParts>::bytes(most_rows(args), args.x.cols()); });
  return static_cast<size_t>(bytes + threads * kSumBytes);
}

const CpuKernel<PackedLinearArgs> kKernel{kPackedLinearInt8, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
