// Bound by memory.
#include "kernel/simd.h"
#include "op/gated_add/gated_add.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

template <class V>
typename V::Scalar open(const TensorView& gate, int64_t row) {
  using S = typename V::Scalar;
  const S x = gate.dtype == DType::kBF16 ? static_cast<S>(as_float(gate.ptr<const BF16>()[row]))
                                         : gate.ptr<const S>()[row];
  return 1 / (1 + std::exp(-x));
}

void forward(KernelContext& context, const GatedAddArgs& args) {
  for_float_type(args.y.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.y.rows(),
        [&](int64_t row) {
          const T* const a = args.a.ptr<const T>() + row * args.a.row_stride();
          const T* const b = args.b.ptr<const T>() + row * args.b.row_stride();
          T* const y = args.y.ptr<T>() + row * args.y.row_stride();
          const V gate = V::set(open<V>(args.gate, row));
          for_lanes<V>(args.y.cols(), [&](int64_t i, int64_t n) {
            V::fma(gate, V::load_n(b + i, n), V::load_n(a + i, n)).store_n(y + i, n);
          });
        },
        8);
  });
}

void backward(KernelContext& context, const GatedAddBackwardArgs& args) {
  for_float_type(args.dy.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.dy.rows(),
        [&](int64_t row) {
          const T* const b = args.b.ptr<const T>() + row * args.b.row_stride();
          const T* const dy = args.dy.ptr<const T>() + row * args.dy.row_stride();
          T* const db = args.db.ptr<T>() + row * args.db.row_stride();
          const typename V::Scalar gate = open<V>(args.gate, row);
          V dot = V::zero();
          for_lanes<V>(args.dy.cols(), [&](int64_t i, int64_t n) {
            const V d = V::load_n(dy + i, n);
            dot = V::fma(d, V::load_n(b + i, n), dot);
            (V::set(gate) * d).store_n(db + i, n);
          });
          const typename V::Scalar dgate = dot.sum() * gate * (1 - gate);
          if (args.dgate.dtype == DType::kBF16)
            put(args.dgate.ptr<BF16>() + row, dgate);
          else
            args.dgate.ptr<typename V::Scalar>()[row] = dgate;
        },
        8);
  });
}

const CpuKernel<GatedAddArgs> kForward{kGatedAdd, kIsa, &forward};
const CpuKernel<GatedAddBackwardArgs> kBackward{kGatedAddBackward, kIsa, &backward};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
