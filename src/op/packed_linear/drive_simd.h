#pragma once
// How a packed product is cut, for *_cpu.cc files: strips of rows times groups of panels are tasks; a task
// walks along k in slices that stay in L1, and in a slice takes a tile of rows at a time. Sums wait in fp32
// between slices, so neither the cut nor the tile's height changes the order of a sum.
//
// A kernel K gives:
//   kRows, kDepth                the tallest tile; elements along k of a slice, but where one tile is all
//   strip(depth)                 rows of a strip, a multiple of kRows of at most kStrip
//   slice(panel, k, n, buffer)   elements [k, k + n) of a panel, ready to multiply (kBufferBytes of buffer)
//   multiply<N>(slice, row, k, n, ahead, sums)   adds the products of a tile of N rows, and asks for `ahead`
//   finish(panel, row, n, sum)   the sum of all k to the output's value, for the outputs from n on

#include "kernel/units.h"
#include "op/packed_linear/packed_linear.h"
#include "op/packed_linear/panel_simd.h"
#include "op/packed_linear/tiles_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

constexpr int64_t kStrip = 192, kGroupPanels = 4;

// x seen as a matrix of `rows` rows, `first` rows on.
template <class Of>
static inline Of rows_of(const Of& x, int64_t first, int64_t rows) {
  Of view = x;
  const int64_t columns = x.cols(), stride = x.row_stride();
  view.data = x.template ptr<float>() + first * stride;
  view.rank = 2;
  view.dims = {rows, columns};
  view.strides = {stride, 1};
  view.live = nullptr;
  return view;
}

// Calls body(args) for each group that has rows, with that group's.
template <class Body>
static inline void for_groups(const PackedLinearArgs& args, Body&& body) {
  if (!args.counts.defined()) return body(args);
  const int64_t groups = args.counts.dims[0], panels = args.packed.dims[0] / groups;
  for (int64_t g = 0, first = 0; g < groups; ++g) {
    const int64_t rows = args.counts.ptr<const int32_t>()[g];
    if (rows == 0) continue;
    PackedLinearArgs one = args;
    one.x = rows_of(args.x, first, rows);
    one.y = rows_of(args.y, first, rows);
    one.packed.data = args.packed.ptr<std::byte>() + g * panels * args.packed.dims[1];
    one.packed.dims[0] = panels;
    body(one);
    first += rows;
  }
}

// Rows of x at most, in one product.
static inline int64_t most_rows(const PackedLinearArgs& args) {
  return args.x.dims[0] * (args.x.rank == 3 ? args.x.dims[1] : 1);
}

struct Cut {
  Tiles tiles;
  int64_t rows, panels, strips, group, groups;
  Cut(const PackedLinearArgs& args, int64_t most, int64_t tallest_strip)
      : tiles(args.x.rows(), most), rows(tiles.rows), panels(args.packed.dims[0]) {
    strips = (rows + tallest_strip - 1) / tallest_strip;
    // Few rows read each panel from memory in one run; many share a slice of them in L2. So many tasks that
    // the last ones end together.
    group = rows <= 48 ? 1 : panels * strips / 96;
    group = group < 1 ? 1 : group > kGroupPanels ? kGroupPanels : group;
    groups = (panels + group - 1) / group;
  }
};

// Lines of the packed weight that a tile asks for while it multiplies: its share of the next slice.
struct Ahead {
  const std::byte *next, *end;
};

// Bytes of one thread's sums and buffer.
constexpr int64_t kSumBytes = kGroupPanels * kStrip * kPanel * 4;
template <class K>
constexpr int64_t kThreadBytes = kSumBytes + K::kBufferBytes;

template <class K>
class Drive {
 public:
  Drive(const PackedLinearArgs& args, const K& kernel, std::byte* memory)
      : args_(args),
        kernel_(kernel),
        cut_(args, K::kRows, K::strip(args.x.cols())),
        memory_(memory),
        depth_(args.x.cols()),
        step_(K::kBufferBytes == 0 && cut_.tiles.count == 1 ? depth_ : K::kDepth),
        slice_bytes_(args.packed.dims[1] * step_ / (depth_ > step_ ? depth_ : step_)) {
    static_assert(kStrip % K::kRows == 0);
  }

  // Each thread has a run of tasks of its own, half of all together, before it takes from the rest: asking
  // another core costs as much as a small task. It takes the next task before it begins one, so that it knows
  // which slice comes next.
  void run(const KernelContext& context) const {
    const int64_t n = cut_.strips * cut_.groups, own = n / (2 * context.team.size());
    int64_t taken = own * context.team.size();
    context.team.run([&](int thread) {
      int64_t mine = own * thread;
      const int64_t end = mine + own;
      const auto take = [&] { return mine < end ? mine++ : __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED); };
      int64_t task = take();
      while (task < n) {
        const int64_t next = take();
        run_task(task, next < n ? next % cut_.groups * cut_.group : -1, memory_ + thread * kThreadBytes<K>);
        task = next;
      }
    });
  }

 private:
  // next_panel: the next task's first; -1: none.
  void run_task(int64_t task, int64_t next_panel, std::byte* memory) const {
    const int64_t strip = task / cut_.groups, panel = task % cut_.groups * cut_.group;
    const int64_t first = strip * cut_.tiles.count / cut_.strips,
                  last = (strip + 1) * cut_.tiles.count / cut_.strips;
    const int64_t end = panel + cut_.group < cut_.panels ? panel + cut_.group : cut_.panels;
    for (int64_t k = 0; k < depth_; k += step_)
      for (int64_t p = panel; p < end; ++p) {
        const int64_t after = k + step_ < depth_ ? k + step_ : 0;
        const Ahead ahead = p + 1 < end ? ahead_of(p + 1, k)
                            : after > 0 ? ahead_of(panel, after)
                                        : ahead_of(next_panel, 0);
        slice(p, k, first, last, ahead, reinterpret_cast<float*>(memory) + (p - panel) * kStrip * kPanel,
              memory + kSumBytes);
      }
  }

  Ahead ahead_of(int64_t panel, int64_t k) const {
    if (panel < 0) return {nullptr, nullptr};
    const std::byte* const next =
        args_.packed.ptr<const std::byte>() + panel * args_.packed.dims[1] + k / step_ * slice_bytes_;
    return {next, next + slice_bytes_};
  }

  // Tiles [first, last) of one slice of a panel.
  void slice(int64_t panel, int64_t k, int64_t first, int64_t last, Ahead ahead, float* sums,
             std::byte* buffer) const {
    const int64_t n = depth_ - k < step_ ? depth_ - k : step_;
    const auto elements = kernel_.slice(panel, k, n, buffer);
    const int64_t origin = cut_.tiles.first(first), bytes = ahead.end - ahead.next;
    const int64_t share = last - first == 1 ? bytes : (bytes / (last - first) + 63) / 64 * 64;
    for (int64_t t = first; t < last; ++t) {
      const int64_t row = cut_.tiles.first(t);
      tile_of<K::kRows>(cut_.tiles.first(t + 1) - row, elements, panel, row, k, n,
                        {ahead.next, ahead.next + share}, sums + (row - origin) * kPanel);
      ahead.next += share;
    }
  }

  template <int N, class S>
  void tile_of(int64_t height, const S& slice, int64_t panel, int64_t row, int64_t k, int64_t n, Ahead ahead,
               float* sums) const {
    if constexpr (N > 1)
      if (height < N) return tile_of<N - 1>(height, slice, panel, row, k, n, ahead, sums);
    tile<N>(slice, panel, row, k, n, ahead, sums);
  }

  template <int N, class S>
  [[gnu::noinline]] void tile(const S& slice, int64_t panel, int64_t row, int64_t k, int64_t n, Ahead ahead,
                              float* sums) const {
    F32 sum[N][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r)
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j)
        sum[r][j] = k > 0 ? F32::load(sums + r * kPanel + j * F32::kLanes) : F32::zero();
    kernel_.template multiply<N>(slice, row, k, n, ahead, sum);
    if (k + n == depth_) return store<N>(sum, panel, row);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r)
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j) sum[r][j].store(sums + r * kPanel + j * F32::kLanes);
  }

  template <int N>
  void store(F32 (&sum)[N][kVectors], int64_t panel, int64_t row) const {
    const int64_t left = args_.y.cols() - panel * kPanel;
#pragma GCC unroll 32
    for (int j = 0; j < kVectors; ++j) {
      const int64_t column = j * F32::kLanes, n = left - column;
      if (n <= 0) break;
      F32 bias = F32::zero();
      if (args_.bias.defined())
        bias = F32::load_n(args_.bias.ptr<const float>() + panel * kPanel + column, n);
      float* y = args_.y.ptr<float>() + row * args_.y.row_stride() + panel * kPanel + column;
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r, y += args_.y.row_stride()) {
        F32 value = kernel_.finish(panel, row + r, column, sum[r][j]);
        if (args_.bias.defined()) value = value + bias;
        value.store_n(y, n);
      }
    }
  }

  const PackedLinearArgs& args_;
  const K& kernel_;
  Cut cut_;
  std::byte* memory_;
  int64_t depth_, step_, slice_bytes_;  // step: elements along k of a slice
};

}  // namespace flagscale::op::FLAGSCALE_ISA
