#pragma once
// How a packed product is cut, for *_cpu.cc files: strips of rows times groups of panels are tasks; a task
// walks along k in slices that stay in L1, and in a slice takes a few rows at a time. Sums wait in fp32
// between slices, so neither the cut nor the tile's height changes the order of a sum.
//
// A kernel K gives:
//   kRows, kDepth                the tallest tile; elements along k of a slice
//   slice(panel, k, n, buffer)   elements [k, k + n) of a panel, ready to multiply (kBufferBytes of buffer)
//   multiply<N>(slice, row, k, n, sums)   adds the products of N rows
//   finish(panel, n, sum)        the sum of all k to the output's value, for the outputs from n on

#include "kernel/units.h"
#include "op/packed_linear/packed_linear.h"
#include "op/packed_linear/panel_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

constexpr int64_t kStrip = 192, kGroupPanels = 4;

struct Cut {
  int64_t rows, panels, strip, strips, group, groups;
  Cut(const PackedLinearArgs& args, int64_t count) : rows(count), panels(args.packed.dims[0]) {
    strips = (rows + kStrip - 1) / kStrip;
    strip = strips > 0 ? ((rows + strips - 1) / strips + 11) / 12 * 12 : 1;
    // Few rows read each panel from memory in one run; many share a slice of them in L2. Some tasks more than
    // threads.
    group = rows <= 48 ? 1 : panels * strips / 32;
    group = group < 1 ? 1 : group > kGroupPanels ? kGroupPanels : group;
    groups = (panels + group - 1) / group;
  }
};

// Bytes of one thread's sums and buffer.
constexpr int64_t kSumBytes = kGroupPanels * kStrip * kPanel * 4;
template <class K>
constexpr int64_t kThreadBytes = kSumBytes + K::kBufferBytes;

template <class K>
class Drive {
 public:
  Drive(const PackedLinearArgs& args, const K& kernel, std::byte* memory)
      : args_(args), kernel_(kernel), cut_(args, args.x.rows()), memory_(memory), depth_(args.x.cols()) {}

  void run(const KernelContext& context) const {
    for_units(context, cut_.strips * cut_.groups, [&](int64_t task, int thread) {
      std::byte* const memory = memory_ + thread * kThreadBytes<K>;
      const int64_t first = task / cut_.groups * cut_.strip, panel = task % cut_.groups * cut_.group;
      const int64_t last = first + cut_.strip < cut_.rows ? first + cut_.strip : cut_.rows;
      const int64_t end = panel + cut_.group < cut_.panels ? panel + cut_.group : cut_.panels;
      for (int64_t k = 0; k < depth_; k += K::kDepth)
        for (int64_t p = panel; p < end; ++p)
          rows(p, k, first, last, reinterpret_cast<float*>(memory) + (p - panel) * kStrip * kPanel,
               memory + kSumBytes);
    });
  }

 private:
  void rows(int64_t panel, int64_t k, int64_t first, int64_t last, float* sums, std::byte* buffer) const {
    const int64_t n = depth_ - k < K::kDepth ? depth_ - k : K::kDepth;
    const auto slice = kernel_.slice(panel, k, n, buffer);
    for (int64_t row = first; row < last;) {
      float* const sum = sums + (row - first) * kPanel;
      row += tiles<K::kRows>(slice, panel, row, last - row, k, n, sum);
    }
  }

  // One tile of at most N rows; as even as possible.
  template <int N, class S>
  int64_t tiles(const S& slice, int64_t panel, int64_t row, int64_t left, int64_t k, int64_t n,
                float* sums) const {
    const int64_t even = (left + (left + K::kRows - 1) / K::kRows - 1) / ((left + K::kRows - 1) / K::kRows);
    if constexpr (N > 1) {
      constexpr int kNext = N > 8 ? 8 : N > 6 ? 6 : N > 4 ? 4 : N - 1;
      if (even < N) return tiles<kNext>(slice, panel, row, left, k, n, sums);
    }
    tile<N>(slice, panel, row, k, n, sums);
    return N;
  }

  template <int N, class S>
  [[gnu::noinline]] void tile(const S& slice, int64_t panel, int64_t row, int64_t k, int64_t n,
                              float* sums) const {
    F32 sum[N][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r)
#pragma GCC unroll 32
      for (int j = 0; j < kVectors; ++j)
        sum[r][j] = k > 0 ? F32::load(sums + r * kPanel + j * F32::kLanes) : F32::zero();
    kernel_.template multiply<N>(slice, row, k, n, sum);
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
        F32 value = kernel_.finish(panel, column, sum[r][j]);
        if (args_.bias.defined()) value = value + bias;
        value.store_n(y, n);
      }
    }
  }

  const PackedLinearArgs& args_;
  const K& kernel_;
  Cut cut_;
  std::byte* memory_;
  int64_t depth_;
};

}  // namespace flagscale::op::FLAGSCALE_ISA
