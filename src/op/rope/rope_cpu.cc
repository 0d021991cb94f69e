// Bound by memory: x is read and y written once; the tables' rows stay in L1 across heads.
#include "op/rope/rope.h"

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

template <class V, class T>
void rotate_halves(const T* x, T* y, const float* cos, const float* sin, int64_t half, bool backwards) {
  for_lanes<V>(half, [&](int64_t i, int64_t n) {
    const V a = V::load_n(x + i, n), b = V::load_n(x + half + i, n), c = V::load_n(cos + i, n);
    V s = V::load_n(sin + i, n);
    if (backwards) s = V::zero() - s;
    (a * c - b * s).store_n(y + i, n);
    (b * c + a * s).store_n(y + half + i, n);
  });
}

template <class S, class T>
void rotate_pairs(const T* x, T* y, const float* cos, const float* sin, int64_t half, bool backwards) {
  for (int64_t i = 0; i < half; ++i) {
    const S a = as_float(x[2 * i]), b = as_float(x[2 * i + 1]), c = cos[i], s = backwards ? -sin[i] : sin[i];
    put(y + 2 * i, a * c - b * s);
    put(y + 2 * i + 1, b * c + a * s);
  }
}

void run(KernelContext& context, const RopeArgs& args) {
  const int64_t half = args.cos.cols(), heads = args.x.cols() / (2 * half), last = args.cos.dims[0] - 1;
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(args.x.rows(), [&](int64_t token) {
      const int64_t wanted = args.positions.ptr<const int32_t>()[token];
      const int64_t position = wanted < 0 ? 0 : wanted > last ? last : wanted;
      const float *cos = args.cos.ptr<const float>() + position * half, *sin = args.sin.ptr<const float>() + position * half;
      for (int64_t head = 0; head < heads; ++head) {
        const T* x = args.x.ptr<const T>() + token * args.x.row_stride() + head * 2 * half;
        T* y = args.y.ptr<T>() + token * args.y.row_stride() + head * 2 * half;
        if (args.interleaved) rotate_pairs<typename V::Scalar>(x, y, cos, sin, half, args.backwards);
        else rotate_halves<V>(x, y, cos, sin, half, args.backwards);
      }
    }, 16);
  });
}

const CpuKernel<RopeArgs> kKernel{kRope, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
