// A product of op/matmul whose register tiles go on with the low-rank addition before they are stored: a
// tile's panel of b is followed by one of `up`, its rows of a by those of `low`.
#include "op/lora/adapted_linear.h"
#include "op/matmul/product_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

template <class V, class T>
class LowRank {
 public:
  using S = typename V::Scalar;
  static constexpr bool kAdds = true;
  static constexpr int64_t kElements = Units<V, T>::kElements;

  // buffer: buffer_size() for one thread.
  LowRank(const AdaptedMatmulArgs& args, S* buffer)
      : args_(args), rank_(args.rank()), pitch_(units(args)), buffer_(buffer) {}

  // Room for all of low's columns, rounded up as packing does.
  static int64_t units(const AdaptedMatmulArgs& args) {
    return divide_up(divide_up(args.low.cols(), kElements), V::kLanes) * V::kLanes;
  }
  static int64_t buffer_size(const AdaptedMatmulArgs& args) { return Tile<V>::kBufferRows * units(args); }

  // The panel of `up` for the product's columns [column, column + kColumns).
  template <int kColumns>
  void pack(int64_t column, S* to) const {
    const Ranks ranks = ranks_of(column, kColumns);
    const int64_t units = divide_up(ranks.count, kElements);
    for (int64_t u = 0; u < units * kColumns; u += V::kLanes) V::zero().store(to + u);
    for (int64_t i = ranks.first / rank_; i * rank_ < ranks.first + ranks.count; ++i) {
      const In& up = args_.up[i];
      const int64_t by_rank = args_.across ? up.row_stride() : 1,
                    by_column = args_.across ? 1 : up.row_stride();
      const int64_t begin = most(column, args_.first[i]), end = least(column + kColumns, end_of(i));
      for (int64_t c = begin; c < end; ++c) {
        const T* const from = up.template ptr<const T>() + (c - args_.first[i]) * by_column;
        for (int64_t q = 0; q < rank_; ++q)
          put_element(to, i * rank_ + q - ranks.first, c - column, kColumns, from[q * by_rank]);
      }
    }
  }

  // For `rows` rows from `row` on and the columns of that panel; nothing before a sum's last block.
  Tail<S> tail(int64_t row, int64_t rows, int64_t column, int64_t columns, const S* panel, bool last) {
    const Ranks ranks = last ? ranks_of(column, columns) : Ranks{0, 0};
    const int64_t units = divide_up(ranks.count, kElements);
    if (units > 0 && (row != row_ || ranks.first != first_ || ranks.count != count_)) {
      const Source<T> low{args_.low.template ptr<const T>() + ranks.first, args_.low.row_stride(), true,
                          ranks.count, args_.low.rows()};
      pack_by_row<V, T>(low, row, rows, 0, units, buffer_, pitch_);
      row_ = row, first_ = ranks.first, count_ = ranks.count;
    }
    return {{buffer_, pitch_, 0}, panel, units};
  }

 private:
  struct Ranks {
    int64_t first, count;  // columns of low
  };

  int64_t end_of(int64_t i) const { return args_.first[i] + args_.up[i].dims[args_.across ? 1 : 0]; }

  // Those of all additions that meet the columns.
  Ranks ranks_of(int64_t column, int64_t columns) const {
    int64_t first = -1, end = 0;
    for (int64_t i = 0; i < kMostAdditions && args_.up[i].defined(); ++i) {
      if (end_of(i) <= column || column + columns <= args_.first[i]) continue;
      if (first < 0) first = i * rank_;
      end = (i + 1) * rank_;
    }
    return first < 0 ? Ranks{0, 0} : Ranks{first, end - first};
  }

  static void put_element(S* panel, int64_t element, int64_t column, int64_t columns, T x) {
    const int64_t at = element / kElements * columns + column;
    if constexpr (Units<V, T>::kIsUnit)
      reinterpret_cast<T*>(panel)[at * kElements + element % kElements] = x;
    else
      panel[at] = as_float(x);
  }

  const AdaptedMatmulArgs& args_;
  int64_t rank_, pitch_;
  S* buffer_;
  int64_t row_ = -1, first_ = 0, count_ = 0;  // of what buffer_ holds
};

template <class V, class T>
int64_t scratch_of(const AdaptedMatmulArgs& args) {
  return Grid<V, T>(args, true, kMostTasks, LowRank<V, T>::units(args)).scratch() +
         LowRank<V, T>::buffer_size(args);
}

void run(KernelContext& context, const AdaptedMatmulArgs& args) {
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const Grid<V, T> grid(args, false, kMostTasks, LowRank<V, T>::units(args));
    const int64_t each = scratch_of<V, T>(args), buffer = LowRank<V, T>::buffer_size(args);
    S* const scratch = reinterpret_cast<S*>(context.workspace.data());
    int64_t next = 0;
    context.team.run([&](int thread) {
      S* const mine = scratch + thread * each;
      for (int64_t i; (i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < grid.strips * grid.groups;)
        Task<V, T, LowRank<V, T>>(args, grid, i, mine + buffer, {args, mine}).run();
    });
  });
}

size_t workspace(const AdaptedMatmulArgs& args, int threads) {
  int64_t bytes = 0;
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    bytes = scratch_of<V, T>(args) * static_cast<int64_t>(sizeof(typename V::Scalar));
  });
  return static_cast<size_t>(bytes) * static_cast<size_t>(threads);
}

const CpuKernel<AdaptedMatmulArgs> kKernel{kAdaptedMatmul, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
