// Bound by memory: forward reads x (and delta) and writes y (and sum); a row stays in L1 between its two
// passes. The weight's gradient is summed over blocks of kRows rows, each block in row order, then over
// blocks in order.
#include "kernel/simd.h"
#include "op/fp8_product/largest.h"
#include "op/rms_norm/rms_norm.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int64_t kRows = 32;

template <class V, class T>
void forward_row(const RmsNormArgs& args, int64_t row) {
  using S = typename V::Scalar;
  const int64_t group = args.weight.cols(), groups = args.x.cols() / group;
  const T* weight = args.weight.ptr<const T>();
  for (int64_t g = 0; g < groups; ++g) {
    const T* x = args.x.ptr<const T>() + row * args.x.row_stride() + g * group;
    T* y = args.y.ptr<T>() + row * args.y.row_stride() + g * group;
    V squares = V::zero();
    if (args.delta.defined()) {
      const T* delta = args.delta.ptr<const T>() + row * args.delta.row_stride() + g * group;
      T* sum = args.sum.ptr<T>() + row * args.sum.row_stride() + g * group;
      for_lanes<V>(group, [&](int64_t i, int64_t n) {
        (V::load_n(x + i, n) + V::load_n(delta + i, n)).store_n(sum + i, n);
        const V s = V::load_n(sum + i, n);  // as stored: what the backward pass sees
        squares = V::fma(s, s, squares);
      });
      x = sum;
    } else {
      for_lanes<V>(group, [&](int64_t i, int64_t n) {
        const V s = V::load_n(x + i, n);
        squares = V::fma(s, s, squares);
      });
    }
    const S rstd = S(1) / std::sqrt(squares.sum() / static_cast<S>(group) + static_cast<S>(args.eps));
    args.rstd.ptr<S>()[row * groups + g] = rstd;
    const V scale = V::set(rstd);
    for_lanes<V>(group, [&](int64_t i, int64_t n) {
      (V::load_n(x + i, n) * scale * V::load_n(weight + i, n)).store_n(y + i, n);
    });
  }
}

void forward(KernelContext& context, const RmsNormArgs& args) {
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(args.x.rows(), [&](int64_t row) { forward_row<V, T>(args, row); }, 16);
  });
  write_largest(args.largest, args.y);
}

template <class V, class T>
void backward_row(const RmsNormBackwardArgs& args, int64_t row, typename V::Scalar* partial) {
  using S = typename V::Scalar;
  const int64_t group = args.weight.cols(), groups = args.s.cols() / group;
  const T* weight = args.weight.ptr<const T>();
  for (int64_t g = 0; g < groups; ++g) {
    const T* s = args.s.ptr<const T>() + row * args.s.row_stride() + g * group;
    const T* dy = args.dy.ptr<const T>() + row * args.dy.row_stride() + g * group;
    T* dx = args.dx.ptr<T>() + row * args.dx.row_stride() + g * group;
    const S rstd = args.rstd.ptr<const S>()[row * groups + g];
    V dot = V::zero();
    for_lanes<V>(group, [&](int64_t i, int64_t n) {
      dot = V::fma(V::load_n(dy + i, n) * V::load_n(weight + i, n), V::load_n(s + i, n), dot);
    });
    T* y = args.y.defined() ? args.y.ptr<T>() + row * args.y.row_stride() + g * group : nullptr;
    // dx = rstd * (w dy) - s * rstd^3 * mean(w dy s)
    const V scale = V::set(rstd), shrink = V::set(-rstd * rstd * rstd * dot.sum() / static_cast<S>(group));
    const T* dsum =
        args.dsum.defined() ? args.dsum.ptr<const T>() + row * args.dsum.row_stride() + g * group : nullptr;
    for_lanes<V>(group, [&](int64_t i, int64_t n) {
      const V si = V::load_n(s + i, n), dyi = V::load_n(dy + i, n), w = V::load_n(weight + i, n);
      V d = V::fma(dyi * w, scale, si * shrink);
      if (dsum) d = d + V::load_n(dsum + i, n);
      d.store_n(dx + i, n);
      if (y) (si * scale * w).store_n(y + i, n);
      if (partial) V::fma(dyi * si, scale, V::load_n(partial + i, n)).store_n(partial + i, n);
    });
  }
}

template <class V, class D, class S>
void reduce_weight(const KernelContext& context, const RmsNormBackwardArgs& args, const S* partials,
                   int64_t blocks) {
  const int64_t group = args.weight.cols();
  const bool add = !args.accumulate || *args.accumulate != 0;
  D* dweight = args.dweight.ptr<D>();
  context.team.for_each((group + 255) / 256, [&](int64_t block) {
    const int64_t first = block * 256, last = first + 256 < group ? first + 256 : group;
    for (int64_t i = first; i < last; i += V::kLanes) {
      const int64_t n = last - i;
      V total = add ? V::load_n(dweight + i, n) : V::zero();
      for (int64_t b = 0; b < blocks; ++b) total = total + V::load_n(partials + b * group + i, n);
      total.store_n(dweight + i, n);
    }
  });
}

void backward(KernelContext& context, const RmsNormBackwardArgs& args) {
  for_float_type(args.s.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const int64_t rows = args.s.rows(), blocks = (rows + kRows - 1) / kRows, group = args.weight.cols();
    S* partials = args.dweight.defined() ? reinterpret_cast<S*>(context.workspace.data()) : nullptr;
    context.team.for_each(blocks, [&](int64_t block) {
      S* partial = partials ? partials + block * group : nullptr;
      if (partial) std::memset(partial, 0, static_cast<size_t>(group) * sizeof(S));
      for (int64_t row = block * kRows; row < rows && row < (block + 1) * kRows; ++row)
        backward_row<V, T>(args, row, partial);
    });
    write_largest(args.largest, args.dx);
    if (!partials) return;
    if (args.dweight.dtype == DType::kBF16)
      reduce_weight<V, BF16>(context, args, partials, blocks);
    else
      reduce_weight<V, S>(context, args, partials, blocks);
  });
}

size_t backward_workspace(const RmsNormBackwardArgs& args, int) {
  if (!args.dweight.defined()) return 0;
  const int64_t blocks = (args.s.dim(0) + kRows - 1) / kRows;
  return static_cast<size_t>(blocks * args.weight.cols()) * (args.s.dtype == DType::kF64 ? 8 : 4);
}

const CpuKernel<RmsNormArgs> kForward{kRmsNorm, kIsa, &forward};
const CpuKernel<RmsNormBackwardArgs> kBackward{kRmsNormBackward, kIsa, &backward, &backward_workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
