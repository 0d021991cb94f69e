// Bound by memory and by one exponential an element.
#include "kernel/simd.h"
#include "op/fp8_product/largest.h"
#include "op/swiglu/swiglu.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

template <class V>
V sigmoid(V x) {
  return V::set(1) / (V::set(1) + V::exp(V::zero() - x));
}

void forward(KernelContext& context, const SwigluArgs& args) {
  for_float_type(args.y.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.y.rows(),
        [&](int64_t row) {
          const T* gate = args.gate.ptr<const T>() + row * args.gate.row_stride();
          const T* up = args.up.ptr<const T>() + row * args.up.row_stride();
          T* y = args.y.ptr<T>() + row * args.y.row_stride();
          for_lanes<V>(args.y.cols(), [&](int64_t i, int64_t n) {
            const V g = V::load_n(gate + i, n);
            (g * sigmoid(g) * V::load_n(up + i, n)).store_n(y + i, n);
          });
        },
        8);
  });
  write_largest(args.largest, args.y);
}

void backward(KernelContext& context, const SwigluBackwardArgs& args) {
  for_float_type(args.dy.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.dy.rows(),
        [&](int64_t row) {
          const T* gate = args.gate.ptr<const T>() + row * args.gate.row_stride();
          const T* up = args.up.ptr<const T>() + row * args.up.row_stride();
          const T* dy = args.dy.ptr<const T>() + row * args.dy.row_stride();
          T* dgate = args.dgate.ptr<T>() + row * args.dgate.row_stride();
          T* dup = args.dup.ptr<T>() + row * args.dup.row_stride();
          T* y = args.y.defined() ? args.y.ptr<T>() + row * args.y.row_stride() : nullptr;
          for_lanes<V>(args.dy.cols(), [&](int64_t i, int64_t n) {
            const V g = V::load_n(gate + i, n), u = V::load_n(up + i, n), d = V::load_n(dy + i, n),
                    s = sigmoid(g);
            if (y) (g * s * u).store_n(y + i, n);
            // silu'(g) = s * (1 + g * (1 - s))
            (d * u * s * V::fma(g, V::set(1) - s, V::set(1))).store_n(dgate + i, n);
            (d * g * s).store_n(dup + i, n);
          });
        },
        8);
  });
  write_largest(args.largest, args.dgate, &args.dup);
}

const CpuKernel<SwigluArgs> kForward{kSwiglu, kIsa, &forward};
const CpuKernel<SwigluBackwardArgs> kBackward{kSwigluBackward, kIsa, &backward};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
