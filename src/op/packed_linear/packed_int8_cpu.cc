// Integer formats in integers. x is quantised by row and group of 32: scale = largest magnitude / 127. In a
// group the products are summed exactly; groups are combined in fp32 in order, each as
//   sum = fma(integers * x_scale, weight_scale, sum), then, with offsets, sum = fma(x_scale * (sum of x),
//   offset, sum)
#include "op/packed_linear/drive_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
namespace {

// Quantised rows of x. `sum` is of the integers of each part of a group, `scaled` their sum in a group times
// the scale.
struct Quantised {
  int8_t* q;
  float *scale, *scaled;
  int32_t* sum;
  int64_t groups, parts;

  static int64_t bytes(int64_t rows, int64_t in, int64_t parts) {
    const int64_t groups = (in + kGroup - 1) / kGroup;
    return (rows * groups * (kGroup + 4 + 4 + 4 * parts) + 63) / 64 * 64;
  }
  Quantised(std::byte* memory, int64_t rows, int64_t in, int64_t parts_)
      : groups((in + kGroup - 1) / kGroup), parts(parts_) {
    q = reinterpret_cast<int8_t*>(memory);
    scale = reinterpret_cast<float*>(memory + rows * groups * kGroup);
    scaled = scale + rows * groups;
    sum = reinterpret_cast<int32_t*>(scaled + rows * groups);
  }
  void row(int64_t r, const float* x, int64_t in) const {
    for (int64_t g = 0; g < groups; ++g) group(r * groups + g, x + g * kGroup, in - g * kGroup);
  }

 private:
  void group(int64_t i, const float* x, int64_t left) const {
    float padded[kGroup];
    if (left < kGroup) {
      for (int64_t k = 0; k < kGroup; ++k) padded[k] = k < left ? x[k] : 0;
      x = padded;
    }
    F32 high = F32::zero();
    for (int64_t k = 0; k < kGroup; k += F32::kLanes) {
      const F32 v = F32::load(x + k);
      high = F32::max(high, F32::max(v, F32::zero() - v));
    }
    const float largest = high.highest(), inverse = largest > 0 ? 127.f / largest : 0.f;
    int32_t total = 0;
    for (int64_t part = 0; part < parts; ++part) {
      int32_t s = 0;
      for (int64_t k = part * kGroup / parts; k < (part + 1) * kGroup / parts; ++k) {
        const auto value = static_cast<int8_t>(nearest(x[k] * inverse));
        q[i * kGroup + k] = value;
        s += value;
      }
      sum[i * parts + part] = s;
      total += s;
    }
    scale[i] = largest / 127.f;
    scaled[i] = scale[i] * static_cast<float>(total);
  }
  // To nearest, ties to even: the sum's last bit is worth 1.
  static int32_t nearest(float x) {
    const float shifted = x + 12582912.f;  // 1.5 * 2^23
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    return bits - 0x4b400000;
  }
};

template <class F>
struct Integers {
  static constexpr int kRows = F32::kLanes == 16 ? 6 : F32::kLanes == 8 ? 2 : 1;
  static constexpr int kWide = F32::kLanes == 1 ? 4 : 2;  // vectors of outputs at once
  static constexpr int64_t kDepth = 512, kBufferBytes = 0;
  const PackedLinearArgs& args;
  Quantised x;

  const uint8_t* slice(int64_t panel, int64_t k, int64_t, std::byte*) const {
    return args.packed.ptr<const uint8_t>() + panel * args.packed.dims[1] + F::kHeadBytes +
           k / F::kBlock * F::kBlockBytes;
  }
  F32 finish(int64_t panel, int64_t n, F32 sum) const {
    if constexpr (!F::kRowScale)
      return sum;
    else
      return sum * F32::load(reinterpret_cast<const float*>(args.packed.ptr<const uint8_t>() +
                                                            panel * args.packed.dims[1]) +
                             n);
  }

  template <int N>
  void multiply(const uint8_t* block, int64_t row, int64_t k, int64_t n, F32 (&sum)[N][kVectors]) const {
    for (int v = 0; v < kVectors; v += kWide) {
      F32 part[N][kWide];
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < kWide; ++j) part[r][j] = sum[r][v + j];
      outputs<N>(block, row, k / kGroup, (k + n + kGroup - 1) / kGroup, v * F32::kLanes, part);
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < kWide; ++j) sum[r][v + j] = part[r][j];
    }
  }

 private:
  // Groups [g, end) of the outputs from n on.
  template <int N>
  [[gnu::always_inline]] void outputs(const uint8_t* block, int64_t row, int64_t g, int64_t end, int64_t n,
                                      F32 (&sum)[N][kWide]) const {
    const int64_t groups = x.groups, at = row * groups;
    const int8_t* q = x.q + (at + g) * kGroup;
    for (; g < end; block += F::kBlockBytes)
      for (int64_t i = 0; i < F::kGroups && g < end; ++i, ++g, q += kGroup) {
        const uint8_t* const bits = F::group(block, i);
        part<N, 0>(bits, block, i, q, at + g, n, sum);
        if constexpr (F::kParts == 2) part<N, 1>(bits, block, i, q, at + g, n, sum);
      }
  }

  // Part kPart of group i of a block; xg: the group's index in the first row.
  template <int N, int kPart>
  [[gnu::always_inline]] void part(const uint8_t* bits, const uint8_t* block, int64_t i, const int8_t* q,
                                   int64_t xg, int64_t n, F32 (&sum)[N][kWide]) const {
    Ints dots[N][kWide];
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
      const Ints start =
          Ints::set(F::kZero == 0 ? 0 : -F::kZero * x.sum[(xg + r * x.groups) * F::kParts + kPart]);
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
    combine<N, kPart>(block, i, xg, n, dots, sum);
  }

  template <int N, int kStep>
  [[gnu::always_inline]] void step(const uint8_t* bits, const int8_t* q, int64_t n,
                                   Ints (&dots)[N][kWide]) const {
    Bytes w[kWide];
#pragma GCC unroll 4
    for (int j = 0; j < kWide; ++j) w[j] = F::Elements::template step<kStep>(bits, n + j * F32::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
      const Bytes xs = Bytes::set4(q + r * x.groups * kGroup + 4 * kStep);
#pragma GCC unroll 4
      for (int j = 0; j < kWide; ++j) dots[r][j] = Ints::template dot<F::kBelow128>(w[j], xs, dots[r][j]);
    }
  }

  template <int N, int kPart>
  [[gnu::always_inline]] void combine(const uint8_t* block, int64_t i, int64_t xg, int64_t n,
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
        const F32 x_scale = F32::set(x.scale[xg + r * x.groups]);
        if constexpr (F::kRowScale)
          sum[r][j] = F32::fma(dots[r][j].to_float(), x_scale, sum[r][j]);
        else
          sum[r][j] = F32::fma(dots[r][j].to_float() * x_scale, scale, sum[r][j]);
        if constexpr (F::kMin) sum[r][j] = F32::fma(F32::set(x.scaled[xg + r * x.groups]), offset, sum[r][j]);
      }
    }
  }
};

constexpr int64_t parts_of(Packing packing) { return packing == Packing::kQ6_K ? 2 : 1; }

void run(KernelContext& context, const PackedLinearArgs& args) {
  const int64_t in = args.x.cols(), rows = args.x.rows(), parts = parts_of(args.packing);
  const Quantised x(context.workspace.data(), args.x.dims[0], in, parts);
  const auto quantise = [&](int64_t r) { x.row(r, args.x.ptr<const float>() + r * args.x.row_stride(), in); };
  if (rows * in < 1 << 14)
    for (int64_t r = 0; r < rows; ++r) quantise(r);
  else
    context.team.for_each(rows, quantise, 8);
  for_format(args.packing, [&]<class F>(F) {
    const Integers<F> kernel{args, x};
    Drive<Integers<F>>(args, kernel, context.workspace.data() + Quantised::bytes(args.x.dims[0], in, parts))
        .run(context);
  });
}

size_t workspace(const PackedLinearArgs& args, int threads) {
  return static_cast<size_t>(Quantised::bytes(args.x.dims[0], args.x.cols(), parts_of(args.packing)) +
                             threads * kSumBytes);
}

const CpuKernel<PackedLinearArgs> kKernel{kPackedLinearInt8, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
