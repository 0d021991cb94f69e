// A slice of a panel is widened to fp32 in L1, then laid where the piece has its columns. Bound by writing.
#include "base/check.h"
#include "op/packed_linear/unpacked_linear.h"
#include "op/packed_linear/widen_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr int64_t kSlice = 128;  // elements along k: 16 kB widened

float bits_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void widen_floats(Packing packing, const uint8_t* panel, int64_t k, int64_t n, float* to) {
  if (packing == Packing::kF32)
    std::memcpy(to, panel + k * kPanel * 4, static_cast<size_t>(n * kPanel) * 4);
  else if (packing == Packing::kF16)
    for (int64_t i = 0; i < n * kPanel; ++i)
      to[i] = half_to_float(reinterpret_cast<const F16*>(panel)[k * kPanel + i]);
  else
    for (int64_t i = k; i < k + n; ++i, to += kPanel) {  // bf16 lies in pairs along k
      const uint32_t* const pairs = reinterpret_cast<const uint32_t*>(panel) + i / 2 * kPanel;
      for (int64_t j = 0; j < kPanel; ++j)
        to[j] = bits_as_float(i % 2 == 0 ? pairs[j] << 16 : pairs[j] & 0xffff0000u);
    }
}

template <class V, class T>
void lay(const float* from, T* to, int64_t columns) {
  if constexpr (sizeof(typename V::Scalar) == sizeof(float))
    for_lanes<V>(columns, [&](int64_t j, int64_t n) { V::load_n(from + j, n).store_n(to + j, n); });
  else
    for (int64_t j = 0; j < columns; ++j) to[j] = static_cast<T>(from[j]);
}

template <class V, class T>
void slice(const UnpackArgs& args, int64_t group, int64_t panel, int64_t k) {
  alignas(64) float values[kSlice * kPanel];
  const int64_t in = args.out.dims[0] / args.groups, n = in - k < kSlice ? in - k : kSlice;
  FLAGSCALE_CHECK(n > 0);
  const int64_t first = group * (args.packed.dims[0] / args.groups) + args.first / kPanel;
  const uint8_t* const from = args.packed.ptr<const uint8_t>() + (first + panel) * args.packed.dims[1];
  if (info(args.packing).bits > 0)
    for_format(args.packing,
               [&]<class F>(F) { Widen<F>::run(from, k, (n + kGroup - 1) / kGroup * kGroup, values); });
  else
    widen_floats(args.packing, from, k, n, values);
  const int64_t column = panel * kPanel, left = args.out.cols() - column;
  for (int64_t i = 0; i < n; ++i)
    lay<V>(values + i * kPanel, args.out.ptr<T>() + (group * in + k + i) * args.out.row_stride() + column,
           left < kPanel ? left : kPanel);
}

void run(KernelContext& context, const UnpackArgs& args) {
  const int64_t panels = (args.out.cols() + kPanel - 1) / kPanel;
  const int64_t slices = (args.out.dims[0] / args.groups + kSlice - 1) / kSlice;
  for_float_type(args.out.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        panels * slices * args.groups,
        [&](int64_t i) {
          slice<V, T>(args, i / (panels * slices), i % panels, i / panels % slices * kSlice);
        },
        4);
  });
}

const CpuKernel<UnpackArgs> kKernel{kUnpack, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
