// Each expert's product is cut as op/matmul cuts one of its size, with its share of the launch's tasks; all
// experts' tasks are taken from one list, so that no thread waits between experts.
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/matmul/product_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

// `rows` rows of x from `first` on, seen as a matrix.
template <class Of>
Of piece(const Of& x, int64_t first, int64_t rows) {
  Of view = x;
  const int64_t columns = x.cols(), stride = x.row_stride();
  const auto bytes = static_cast<int64_t>(size_of(x.dtype));
  view.data = x.template ptr<std::byte>() + first * stride * bytes;
  view.rank = 2;
  view.dims = {rows, columns};
  view.strides = {stride, 1};
  view.live = nullptr;
  return view;
}

struct Groups {
  const GroupedMatmulArgs& args;
  int64_t experts, rows;

  explicit Groups(const GroupedMatmulArgs& a) : args(a), experts(a.counts.dims[0]), rows(a.a.rows()) {}
  int64_t count(int64_t expert) const { return args.counts.ptr<const int32_t>()[expert]; }
  double tasks(int64_t expert) const {
    return 1 + kMostTasks * static_cast<double>(count(expert)) / static_cast<double>(rows > 0 ? rows : 1);
  }
  MatmulArgs product(int64_t expert, int64_t first) const {
    MatmulArgs one;
    const int64_t n = count(expert);
    one.a = piece(args.a, first, n);
    if (args.sum.defined()) {
      const int64_t each = args.sum.dims[0] / experts;
      one.b = piece(args.b, first, n);
      one.sum = piece(args.sum, expert * each, each);
      one.trans_a = true;
      one.accumulate = args.accumulate;
    } else {
      const int64_t each = args.b.dims[0] / experts;
      one.b = piece(args.b, expert * each, each);
      if (args.into.defined())
        one.sum = piece(args.into, first, n), one.accumulate = args.accumulate;
      else
        one.out = piece(args.out, first, n);
      one.trans_b = args.trans_b;
    }
    return one;
  }
};

template <class V, class T>
void run_tasks(const Groups& groups, const int64_t* ends, int64_t& next, typename V::Scalar* scratch) {
  int64_t expert = 0, first = 0;
  const int64_t tasks = ends[groups.experts - 1];
  int64_t i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
  while (i < tasks) {
    while (ends[expert] <= i) first += groups.count(expert++);
    const MatmulArgs one = groups.product(expert, first);
    const Grid<V, T> grid(one, false, groups.tasks(expert));
    const int64_t begin = expert > 0 ? ends[expert - 1] : 0;
    for (; i < ends[expert]; i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED))
      Task<V, T>(one, grid, i - begin, scratch).run();
  }
}

// Scalars of one thread, by sizes and types alone: counts vary.
template <class V, class T>
int64_t scratch_of(const GroupedMatmulArgs& args) {
  MatmulArgs one;
  one.a = args.a, one.b = args.b, one.out = args.out, one.sum = args.sum;
  one.trans_a = args.sum.defined(), one.trans_b = args.trans_b;
  one.a.rank = 2;
  one.a.dims = {args.a.dims[0] * args.a.dims[1], args.a.dims[2]};
  return Grid<V, T>(one, true).scratch();
}

int64_t table_bytes(const GroupedMatmulArgs& args) { return divide_up(args.counts.dims[0] * 8, 64) * 64; }

void run(KernelContext& context, const GroupedMatmulArgs& args) {
  const Groups groups(args);
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    auto* const ends = reinterpret_cast<int64_t*>(context.workspace.data());
    int64_t total = 0, first = 0;
    for (int64_t e = 0; e < groups.experts; first += groups.count(e), ++e) {
      const Grid<V, T> grid(groups.product(e, first), false, groups.tasks(e));
      if (groups.count(e) > 0 || args.sum.defined()) total += grid.strips * grid.groups;
      ends[e] = total;
    }
    const int64_t each = scratch_of<V, T>(args);
    auto* const scratch = reinterpret_cast<typename V::Scalar*>(context.workspace.data() + table_bytes(args));
    int64_t next = 0;
    context.team.run([&](int thread) { run_tasks<V, T>(groups, ends, next, scratch + thread * each); });
  });
}

size_t workspace(const GroupedMatmulArgs& args, int threads) {
  int64_t bytes = 0;
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    bytes = scratch_of<V, T>(args) * static_cast<int64_t>(sizeof(typename V::Scalar));
  });
  return static_cast<size_t>(table_bytes(args) + bytes * threads);
}

const CpuKernel<GroupedMatmulArgs> kKernel{kGroupedMatmul, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
