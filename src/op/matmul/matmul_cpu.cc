// One product; product_simd.h says how.
#include "op/matmul/product_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

void run(KernelContext& context, const MatmulArgs& args) {
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const Grid<V, T> grid(args, false);
    const int64_t each = Grid<V, T>(args, true).scratch();
    S* const scratch = reinterpret_cast<S*>(context.workspace.data());
    int64_t next = 0;
    context.team.run([&](int thread) {
      S* const mine = scratch + thread * each;
      for (int64_t i; (i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < grid.strips * grid.groups;)
        Task<V, T>(args, grid, i, mine).run();
    });
  });
}

size_t workspace(const MatmulArgs& args, int threads) {
  int64_t bytes = 0;
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    bytes = Grid<V, T>(args, true).scratch() * static_cast<int64_t>(sizeof(typename V::Scalar));
  });
  return static_cast<size_t>(bytes) * static_cast<size_t>(threads);
}

template <class V, class T, class D>
void sum_columns(KernelContext& context, const BiasGradArgs& args, D* dbias) {
  const bool add = !args.accumulate || *args.accumulate != 0;
  const int64_t n = args.dy.cols(), rows = args.dy.rows();
  context.team.for_each((n + 63) / 64, [&](int64_t block) {
    const int64_t first = block * 64;
    for_lanes<V>(n - first < 64 ? n - first : 64, [&](int64_t j, int64_t m) {
      D* out = dbias + first + j;
      V sum = add ? V::load_n(out, m) : V::zero();
      for (int64_t row = 0; row < rows; ++row)
        sum = sum + V::load_n(args.dy.ptr<const T>() + row * args.dy.row_stride() + first + j, m);
      sum.store_n(out, m);
    });
  });
}

void bias_grad(KernelContext& context, const BiasGradArgs& args) {
  for_float_type(args.dy.dtype, [&]<class V, class T>(V, T) {
    if (args.dbias.dtype == DType::kBF16)
      sum_columns<V, T>(context, args, args.dbias.ptr<BF16>());
    else
      sum_columns<V, T>(context, args, args.dbias.ptr<typename V::Scalar>());
  });
}

const CpuKernel<MatmulArgs> kKernel{kMatmul, kIsa, &run, &workspace};
const CpuKernel<BiasGradArgs> kBiasKernel{kBiasGrad, kIsa, &bias_grad};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
