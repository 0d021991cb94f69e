// One row: bound by reading the weight once. Many rows: tiles of rows share each panel while it passes through L1. The
// tile's height changes which registers hold a sum, never its order.
#include "op/packed_linear/packed_linear.h"

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int kVectors = static_cast<int>(kPanel) / F32::kLanes;
// Rows whose accumulators fit the registers: 12 x 2 of 32; 3 x 4 of 16; one at a time without vectors.
constexpr int kRows = F32::kLanes == 16 ? 12 : F32::kLanes == 8 ? 3 : 1;

template <int kCount, class W>
void tile(const float* x, int64_t x_row, const W* panel, int64_t depth, F32 (&sum)[kRows][kVectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 32
    for (int j = 0; j < kVectors; ++j) sum[r][j] = F32::zero();
  for (int64_t k = 0; k < depth; ++k, panel += kPanel) {
    F32 w[kVectors];
#pragma GCC unroll 32
    for (int j = 0; j < kVectors; ++j) w[j] = F32::load(panel + j * F32::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
      const F32 xr = F32::set(x[r * x_row + k]);
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j) sum[r][j] = F32::fma(xr, w[j], sum[r][j]);
    }
  }
}

template <int kCount, class W>
void rows(const PackedLinearArgs& args, int64_t row, int64_t p) {
  const int64_t depth = args.x.cols(), first = p * kPanel, left = args.y.cols() - first;
  F32 sum[kRows][kVectors];
  tile<kCount, W>(args.x.ptr<const float>() + row * args.x.row_stride(), args.x.row_stride(),
                  args.packed.ptr<const W>() + p * depth * kPanel, depth, sum);
  for (int r = 0; r < kCount; ++r)
    for (int j = 0; j < kVectors; ++j) {
      const int64_t column = j * F32::kLanes, n = left - column;
      if (n <= 0) break;
      F32 value = sum[r][j];
      if (args.bias.defined()) value = value + F32::load_n(args.bias.ptr<const float>() + first + column, n);
      value.store_n(args.y.ptr<float>() + (row + r) * args.y.row_stride() + first + column, n);
    }
}

template <class W>
void panel_rows(const PackedLinearArgs& args, int64_t p, int64_t first, int64_t last) {
  int64_t row = first;
  for (; row + kRows <= last; row += kRows) rows<kRows, W>(args, row, p);
  if constexpr (kRows > 4)
    for (; row + 4 <= last; row += 4) rows<4, W>(args, row, p);
  for (; row < last; ++row) rows<1, W>(args, row, p);
}

void run(KernelContext& context, const PackedLinearArgs& args) {
  // 192 rows of x stay in L2 while the panels of a group pass.
  constexpr int64_t kStrip = 192, kGroup = 4;
  const int64_t count = args.x.rows(), panels = args.packed.dims[0];
  const int64_t strips = (count + kStrip - 1) / kStrip, groups = (panels + kGroup - 1) / kGroup;
  context.team.for_each(strips * groups, [&](int64_t i) {
    const int64_t first = i / groups * kStrip, last = first + kStrip < count ? first + kStrip : count;
    for (int64_t p = i % groups * kGroup; p < (i % groups + 1) * kGroup && p < panels; ++p) {
      if (args.packed.dtype == DType::kBF16) panel_rows<BF16>(args, p, first, last);
      else panel_rows<float>(args, p, first, last);
    }
  });
}

template <class W>
void gather(const PackedRowsArgs& args, int64_t token) {
  const int32_t wanted = args.ids.ptr<const int32_t>()[token];
  const int64_t row = wanted >= 0 && wanted < args.vocab ? wanted : 0, in = args.packed.dims[1];
  const W* column = args.packed.ptr<const W>() + row / kPanel * in * kPanel + row % kPanel;
  float* y = args.y.ptr<float>() + token * args.y.row_stride();
  for (int64_t k = 0; k < in; ++k) y[k] = as_float(column[k * kPanel]);
}

void run_rows(KernelContext& context, const PackedRowsArgs& args) {
  context.team.for_each(args.ids.size(), [&](int64_t token) {
    if (args.packed.dtype == DType::kBF16) gather<BF16>(args, token);
    else gather<float>(args, token);
  }, 8);
}

const CpuKernel<PackedLinearArgs> kKernel{kPackedLinear, kIsa, &run};
const CpuKernel<PackedRowsArgs> kRowsKernel{kPackedRows, kIsa, &run_rows};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
