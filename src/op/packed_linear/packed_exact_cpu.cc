// Integer formats in fp32: a slice of a panel is widened to fp32 in L1, then multiplied as an fp32 panel
// would be.
#include "op/packed_linear/drive_simd.h"
#include "op/packed_linear/widen_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

struct Widened {
  static constexpr int kRows = F32::kLanes == 16 ? 12 : F32::kLanes == 8 ? 3 : 1;
  static constexpr int64_t kDepth = 256, kBufferBytes = kDepth * kPanel * 4;
  static int64_t strip(int64_t) { return kStrip; }
  const PackedLinearArgs& args;
  void (*widen)(const uint8_t*, int64_t, int64_t, float*);

  const float* slice(int64_t panel, int64_t k, int64_t n, std::byte* buffer) const {
    widen(args.packed.ptr<const uint8_t>() + panel * args.packed.dims[1], k, n,
          reinterpret_cast<float*>(buffer));
    return reinterpret_cast<const float*>(buffer);
  }
  template <int N>
  void multiply(const float* w, int64_t row, int64_t k, int64_t n, Ahead, F32 (&sum)[N][kVectors]) const {
    const float* x = args.x.ptr<const float>() + row * args.x.row_stride() + k;
    const int64_t x_row = args.x.row_stride();
    for (int64_t i = 0; i < n; ++i, w += kPanel, ++x) {
      F32 v[kVectors];
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j) v[j] = F32::load(w + j * F32::kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r) {
        const F32 xr = F32::set(x[r * x_row]);
#pragma GCC unroll 32
        for (int j = 0; j < kVectors; ++j) sum[r][j] = F32::fma(xr, v[j], sum[r][j]);
      }
    }
  }
  F32 finish(int64_t, int64_t, int64_t, F32 sum) const { return sum; }
};

void run_one(KernelContext& context, const PackedLinearArgs& args) {
  Widened kernel{args, nullptr};
  for_format(args.packing, [&]<class F>(F) { kernel.widen = &Widen<F>::run; });
  Drive<Widened>(args, kernel, context.workspace.data()).run(context);
}

void run(KernelContext& context, const PackedLinearArgs& args) {
  for_groups(args, [&](const PackedLinearArgs& one) { run_one(context, one); });
}

size_t workspace(const PackedLinearArgs&, int threads) {
  return static_cast<size_t>(threads * kThreadBytes<Widened>);
}

const CpuKernel<PackedLinearArgs> kKernel{kPackedLinearExact, kIsa, &run, &workspace};

// One row of a table, element by element.
template <class F>
void gather_row(const uint8_t* head, int64_t n, int64_t in, float* y) {
  for (int64_t k = 0; k < in; k += kGroup) {
    const uint8_t* const block = head + F::kHeadBytes + k / F::kBlock * F::kBlockBytes;
    const int64_t g = k % F::kBlock / kGroup, left = in - k;
    for (int i = 0; i < kGroup && i < left; ++i) {
      const int64_t part = g * F::kParts + i * F::kParts / kGroup;
      const float q = static_cast<float>(F::Elements::at(F::group(block, g), n, i) - F::kZero);
      if constexpr (F::kRowScale)
        y[k + i] = reinterpret_cast<const float*>(head)[n] * q;
      else if constexpr (F::kMin)
        y[k + i] = One::fma(F::Scales::template scale<One>(block, part, n), One::set(q),
                            F::Scales::template offset<One>(block, part, n))
                       .v;
      else
        y[k + i] = F::Scales::template scale<One>(block, part, n).v * q;
    }
  }
}

void gather(const PackedRowsArgs& args, int64_t token) {
  const int32_t wanted = args.ids.ptr<const int32_t>()[token];
  const int64_t row = wanted >= 0 && wanted < args.vocab ? wanted : 0, n = row % kPanel, in = args.y.cols();
  const uint8_t* const panel = args.packed.ptr<const uint8_t>() + row / kPanel * args.packed.dims[1];
  float* const y = args.y.ptr<float>() + token * args.y.row_stride();
  switch (args.packing) {
    case Packing::kF32:
      for (int64_t k = 0; k < in; ++k) y[k] = reinterpret_cast<const float*>(panel)[k * kPanel + n];
      return;
    case Packing::kBF16:
      for (int64_t k = 0; k < in; ++k)
        y[k] = as_float(reinterpret_cast<const BF16*>(panel)[(k / 2 * kPanel + n) * 2 + k % 2]);
      return;
    case Packing::kF16:
      for (int64_t k = 0; k < in; ++k)
        y[k] = half_to_float(reinterpret_cast<const F16*>(panel)[k * kPanel + n]);
      return;
    default:
      for_format(args.packing, [&]<class F>(F) { gather_row<F>(panel, n, in, y); });
  }
}

void run_rows(KernelContext& context, const PackedRowsArgs& args) {
  context.team.for_each(args.ids.size(), [&](int64_t token) { gather(args, token); }, 8);
}

const CpuKernel<PackedRowsArgs> kRowsKernel{kPackedRows, kIsa, &run_rows};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
