// Bound by memory: x is read and y written once; the tables' rows stay in L1 across heads.
#include "op/rope/rope.h"
#include "op/rope/rotate.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

void run(KernelContext& context, const RopeArgs& args) {
  const int64_t half = args.cos.cols(), heads = args.x.cols() / (2 * half), last = args.cos.dims[0] - 1;
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    const auto token_of = [&](int64_t token) {
      const int64_t wanted = args.positions.ptr<const int32_t>()[token];
      const int64_t row = (wanted < 0 ? 0 : wanted > last ? last : wanted) * half;
      const T* x = args.x.ptr<const T>() + token * args.x.row_stride();
      T* y = args.y.ptr<T>() + token * args.y.row_stride();
      for (int64_t head = 0; head < heads; ++head, x += 2 * half, y += 2 * half)
        rotate<V>(x, y, args.cos.ptr<const float>() + row, args.sin.ptr<const float>() + row, half,
                  args.interleaved, args.backwards);
    };
    context.team.for_each(args.x.rows(), token_of, 16);
  });
}

const CpuKernel<RopeArgs> kKernel{kRope, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
