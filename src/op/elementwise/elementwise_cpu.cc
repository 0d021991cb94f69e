// Bound by memory: each element is read and written once. Work is cut into rows, long rows into blocks of
// 16384.
#include "kernel/simd.h"
#include "op/elementwise/elementwise.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int64_t kBlock = 16384;

// body(row, first column, columns)
template <class Body>
void for_blocks(const KernelContext& context, int64_t rows, int64_t cols, Body&& body) {
  const int64_t per_row = (cols + kBlock - 1) / kBlock;
  const int64_t grain = cols >= kBlock ? 1 : kBlock / (cols > 0 ? cols : 1) + 1;
  context.team.for_each(
      rows * per_row,
      [&](int64_t i) {
        const int64_t first = i % per_row * kBlock;
        body(i / per_row, first, cols - first < kBlock ? cols - first : kBlock);
      },
      grain);
}

template <class V, class T>
void add_rows(const KernelContext& context, const AddArgs& args) {
  for_blocks(context, args.out.rows(), args.out.cols(), [&](int64_t row, int64_t first, int64_t n) {
    const T* a = args.a.ptr<const T>() + row * args.a.row_stride() + first;
    const T* b = args.b.ptr<const T>() + row * args.b.row_stride() + first;
    T* out = args.out.ptr<T>() + row * args.out.row_stride() + first;
    for_lanes<V>(
        n, [&](int64_t i, int64_t m) { (V::load_n(a + i, m) + V::load_n(b + i, m)).store_n(out + i, m); });
  });
}

void add(KernelContext& context, const AddArgs& args) {
  for_float_type(args.out.dtype, [&]<class V, class T>(V, T) { add_rows<V, T>(context, args); });
}

void zero(KernelContext& context, const ZeroArgs& args) {
  const auto bytes = static_cast<int64_t>(size_of(args.out.dtype));
  for_blocks(context, args.out.rows(), args.out.cols(), [&](int64_t row, int64_t first, int64_t n) {
    std::memset(args.out.ptr<char>() + (row * args.out.row_stride() + first) * bytes, 0,
                static_cast<size_t>(n * bytes));
  });
}

template <class From, class To>
void cast_rows(const KernelContext& context, const CastArgs& args) {
  for_blocks(context, args.out.rows(), args.out.cols(), [&](int64_t row, int64_t first, int64_t n) {
    const From* x = args.x.ptr<const From>() + row * args.x.row_stride() + first;
    To* out = args.out.ptr<To>() + row * args.out.row_stride() + first;
    for_lanes<F32>(n, [&](int64_t i, int64_t m) { F32::load_n(x + i, m).store_n(out + i, m); });
  });
}

void cast(KernelContext& context, const CastArgs& args) {
  const bool from_bf16 = args.x.dtype == DType::kBF16, to_bf16 = args.out.dtype == DType::kBF16;
  if (from_bf16 && to_bf16) cast_rows<BF16, BF16>(context, args);
  if (from_bf16 && !to_bf16) cast_rows<BF16, float>(context, args);
  if (!from_bf16 && to_bf16) cast_rows<float, BF16>(context, args);
  if (!from_bf16 && !to_bf16) cast_rows<float, float>(context, args);
}

const CpuKernel<AddArgs> kAddKernel{kAdd, kIsa, &add};
const CpuKernel<ZeroArgs> kZeroKernel{kZero, kIsa, &zero};
const CpuKernel<CastArgs> kCastKernel{kCast, kIsa, &cast};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
