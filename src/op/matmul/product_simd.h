#pragma once
// How a product is cut and how a piece of it is computed, for *_cpu.cc files.
//
// The matrix c [m, n] is cut into strips of rows and groups of columns, one task each. A task walks along k
// in blocks: it packs its columns of b into panels (they stay in L2), then, kRows rows of a at a time, runs
// register tiles of kRows x kColumns over all panels. a is read where it lies, unless it must be widened or
// paired: copying it cost 14 % (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication",
// 2008). Threads share nothing but the read of a and b. bf16 is multiplied in pairs where the CPU can, else
// widened while packing. Each output is a sum over k in order inside a block, and the blocks' sums are added
// in order; where blocks end depends on k and the type alone.
//
// Packing costs 16 / rows of a strip (16 / columns of a group) of the multiplications' time for each element
// copied, a third of that in practice, so strips and groups are no smaller than balance between threads asks.

#include "op/matmul/matmul.h"
#include "op/matmul/tile_simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

constexpr int64_t kMostDepth = 768;  // units of k in a block
constexpr int64_t kPitch =
    kMostDepth + 16;  // of a row of a's buffer: odd in cache lines, so rows spread over the sets
constexpr int64_t kGroupBytes = 768 << 10;  // of b's panels, of a usual L2 of 1 MB
constexpr double kMostTasks = 16;           // of a launch
constexpr int64_t kStripRows = 512;

static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Whether a's memory can be multiplied as it is: it already holds units along k (pairs only of an even k), or
// numbers across k. Rows a multiple of 2 kB apart would fall on one another in L1, and in L2 when there are
// many.
template <class V, class T>
static bool reads_in_place(const MatmulArgs& args) {
  using U = Units<V, T>;
  const int64_t stride = args.a.row_stride();
  if (!U::kIsUnit || stride * static_cast<int64_t>(sizeof(T)) % 4096 == 0) return false;
  if (args.trans_a) return U::kElements == 1;
  return args.a.dims[1] % U::kElements == 0 && stride % U::kElements == 0;
}

// How a product is cut; from its sizes and type alone.
template <class V, class T>
struct Grid {
  int64_t m, n, k;
  int64_t units, depth;               // of k, and of its blocks
  int64_t strip_rows, group_columns;  // multiples of the tile's
  int64_t strips, groups;
  int64_t tail;     // units that a tail may add to a panel
  bool keeps_sums;  // a bf16 result in several blocks: its fp32 sums wait beside it

  // most_tasks: of this product where several share a launch.
  Grid(const MatmulArgs& args, bool capacity, double most_tasks = kMostTasks, int64_t tail_units = 0)
      : tail(tail_units) {
    const int64_t rows = capacity ? args.a.dims[0] : args.a.rows();
    m = args.trans_a ? args.a.dims[1] : rows;
    k = args.trans_a ? rows : args.a.dims[1];
    n = args.b.dims[args.trans_b ? 0 : 1];
    units = divide_up(k, Units<V, T>::kElements);
    depth = divide_up(divide_up(units, most(1, divide_up(units, kMostDepth))), 16) * 16;
    keeps_sums = (args.out.defined() ? args.out.dtype : args.sum.dtype) == DType::kBF16 && units > depth;

    constexpr int kRows = Tile<V>::kRows, kColumns = Tile<V>::kColumns;
    const int64_t row_tiles = divide_up(m, kRows), column_tiles = divide_up(n, kColumns);
    // A task of 2^22 multiplications takes tens of microseconds. More of them balance better and pack more.
    const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / (1 << 22);
    const double tasks = work < 1 ? 1 : work > most_tasks ? most_tasks : work;
    // b is packed once a strip, a read (or packed) once a group.
    const double cost = !reads_in_place<V, T>(args) ? 1 : 0.25;
    const double strips_wanted =
        std::sqrt(tasks * cost * static_cast<double>(m) / static_cast<double>(most(1, n)));
    const int64_t strip = cut(row_tiles, strips_wanted, kStripRows / kRows);
    strips = divide_up(row_tiles, strip);
    strip_rows = strip * kRows;
    const int64_t tile_bytes = (depth + tail) * kColumns * static_cast<int64_t>(sizeof(typename V::Scalar));
    const int64_t group =
        cut(column_tiles, tasks / static_cast<double>(most(1, strips)), kGroupBytes / most(1, tile_bytes));
    groups = divide_up(column_tiles, group);
    group_columns = group * kColumns;
  }

  // Tiles in a piece: about `pieces` even ones, at most `largest` each.
  static int64_t cut(int64_t tiles, double pieces, int64_t largest) {
    const int64_t least_count = divide_up(tiles, most(1, largest));
    const int64_t count = most(most(1, least_count), static_cast<int64_t>(std::lround(pieces)));
    return most(1, divide_up(tiles, count));
  }

  // One thread's workspace in scalars: a's buffer, b's panels, sums. Bounds, since live counts cut otherwise.
  static constexpr int64_t kPanelsAt = Tile<V>::kBufferRows * kPitch;
  static constexpr int64_t kSumsAt =
      kPanelsAt + kGroupBytes / static_cast<int64_t>(sizeof(typename V::Scalar));
  static constexpr int64_t kMostSumColumns =
      2 * kGroupBytes / (kMostDepth * static_cast<int64_t>(sizeof(typename V::Scalar)));
  int64_t scratch() const { return kSumsAt + (keeps_sums ? kStripRows * kMostSumColumns : 0); }
};

// Where a tile goes: c (+)= tile + bias.
template <class S>
struct Store {
  bool add;
  const S* bias;  // of the tile's columns, or null
};

template <class V, class C>
static void put_row(const typename V::Scalar* tile, C* c, int64_t columns, Store<typename V::Scalar> store) {
  for_lanes<V>(columns, [&](int64_t j, int64_t n) {
    V x = V::load(tile + j);
    if (store.add) x = V::load_n(c + j, n) + x;
    if (store.bias) x = x + V::load_n(store.bias + j, n);
    x.store_n(c + j, n);
  });
}

template <class V, class C>
[[gnu::noinline]] static void put_tile(const typename V::Scalar* tile, C* c, int64_t stride, int64_t rows,
                                       int64_t columns, Store<typename V::Scalar> store) {
  for (int64_t i = 0; i < rows; ++i) put_row<V>(tile + i * Tile<V>::kColumns, c + i * stride, columns, store);
}

// What a task adds to the end of each sum: nothing.
struct AddsNothing {
  static constexpr bool kAdds = false;
};

template <class V, class T, class Addition = AddsNothing>
class Task {
 public:
  using S = typename V::Scalar;
  Task(const MatmulArgs& args, const Grid<V, T>& grid, int64_t index, S* scratch, Addition addition = {})
      : args_(args),
        addition_(addition),
        g_(grid),
        a_{args.a.ptr<const T>(), args.a.row_stride(), !args.trans_a, g_.k, g_.m},
        b_{args.b.ptr<const T>(), args.b.row_stride(), args.trans_b, g_.k, g_.n},
        in_place_(reads_in_place<V, T>(args)),
        adds_(args.sum.defined() && (!args.accumulate || *args.accumulate != 0)),
        buffer_(scratch),
        panels_(scratch + Grid<V, T>::kPanelsAt),
        sums_(scratch + Grid<V, T>::kSumsAt) {
    row_ = index % g_.strips * g_.strip_rows;
    column_ = index / g_.strips * g_.group_columns;
    row_end_ = least(row_ + g_.strip_rows, g_.m);
    column_end_ = least(column_ + g_.group_columns, g_.n);
  }

  void run() {
    if (g_.units == 0 && !adds_) block(0, 0);  // an empty sum is zero
    for (int64_t u = 0; u < g_.units; u += g_.depth) block(u, least(g_.depth, g_.units - u));
  }

 private:
  static constexpr int kRows = Tile<V>::kRows, kColumns = Tile<V>::kColumns;

  // units: of k in this block; packed, they are rounded up.
  void block(int64_t u, int64_t units) {
    const int64_t depth = divide_up(units, V::kLanes) * V::kLanes;
    const int64_t pitch = depth + g_.tail;
    const bool last = u + units >= g_.units;
    for (int64_t c = column_; c < column_end_; c += kColumns) {
      S* const panel = panels_ + (c - column_) * pitch;
      pack_by_unit<V, T, kColumns>(b_, c, u, units, panel);
      if constexpr (Addition::kAdds)
        if (last) addition_.template pack<kColumns>(c, panel + depth * kColumns);
    }
    for (int64_t r = row_; r < row_end_; r += kRows) {
      const int64_t rows = least(kRows, row_end_ - r);
      const Rows<S> a = rows_of_a(r, rows, u, units);
      for (int64_t c = column_; c < column_end_; c += kColumns) {
        alignas(64) S tile[kRows * kColumns];
        prefetch(r, c, rows, u, units);
        const S* const panel = panels_ + (c - column_) * pitch;
        if constexpr (Addition::kAdds)
          multiply_rows<V, T>(
              rows, a, panel, units, tile,
              addition_.tail(r, rows_packed(rows), c, kColumns, panel + depth * kColumns, last));
        else
          multiply_rows<V, T>(rows, a, panel, units, tile);
        put(tile, r, c, rows, least(kColumns, column_end_ - c), u == 0, last);
      }
    }
  }

  Rows<S> rows_of_a(int64_t r, int64_t rows, int64_t u, int64_t units) {
    if (in_place_ && rows == kRows) {
      const T* const p =
          args_.trans_a ? a_.data + u * a_.stride + r : a_.data + r * a_.stride + u * Units<V, T>::kElements;
      const int64_t step = a_.stride / Units<V, T>::kElements;
      return {reinterpret_cast<const S*>(p), args_.trans_a ? 0 : step, args_.trans_a ? step : 0};
    }
    if (args_.trans_a) {
      pack_by_unit<V, T, Tile<V>::kBufferRows>(a_, r, u, units, buffer_);
      return {buffer_, 0, Tile<V>::kBufferRows};
    }
    pack_by_row<V, T>(a_, r, rows_packed(rows), u, units, buffer_, kPitch);
    return {buffer_, kPitch, 0};
  }

  // What multiply_rows() may read.
  static int64_t rows_packed(int64_t rows) {
    return rows == 1 ? 1 : rows <= 4 ? 4 : rows <= 8 && kRows > 8 ? 8 : kRows;
  }

  // Asks for the tile's place in c, else storing waits for it, and for a slice of the next rows of a.
  void prefetch(int64_t r, int64_t c, int64_t rows, int64_t u, int64_t units) const {
    prefetch_rows<V, T>(a_, r + kRows, kRows, u, units, (c - column_) / kColumns,
                        divide_up(column_end_ - column_, kColumns));
    const TensorView& to = result();
    const int64_t size = to.dtype == DType::kBF16 ? 2 : sizeof(S), stride = to.row_stride() * size;
    const char* p = to.ptr<const char>() + r * stride + c * size;
    for (int64_t i = 0; i < rows; ++i, p += stride)
      for (int64_t j = 0; j < kColumns * size; j += 64) __builtin_prefetch(p + j, 1);
  }

  void put(const S* tile, int64_t r, int64_t c, int64_t rows, int64_t columns, bool first, bool last) {
    alignas(64) S bias[kColumns];
    Store<S> store{!first, nullptr};
    if (args_.bias.defined() && last) {
      for (int64_t j = 0; j < columns; ++j) bias[j] = as_float(args_.bias.template ptr<const T>()[c + j]);
      store.bias = bias;
    }
    const TensorView& to = result();
    if (to.dtype == DType::kBF16) return put_narrow(tile, r, c, rows, columns, store, last);
    store.add = !first || adds_;
    put_tile<V>(tile, to.template ptr<S>() + r * to.row_stride() + c, to.row_stride(), rows, columns, store);
  }

  // A bf16 result: rounded once, when its sum is complete.
  void put_narrow(const S* tile, int64_t r, int64_t c, int64_t rows, int64_t columns, Store<S> store,
                  bool last) {
    const int64_t stride = result().row_stride();
    BF16* out = result().template ptr<BF16>() + r * stride + c;
    if (!g_.keeps_sums) {
      store.add = adds_;
      return put_tile<V>(tile, out, stride, rows, columns, store);
    }
    S* sums = sums_ + (r - row_) * g_.group_columns + (c - column_);
    put_tile<V>(tile, sums, g_.group_columns, rows, columns, store);
    if (!last) return;
    for (int64_t i = 0; i < rows; ++i)
      put_row<V>(sums + i * g_.group_columns, out + i * stride, columns, {adds_, nullptr});
  }

  const TensorView& result() const {
    return args_.sum.defined() ? static_cast<const TensorView&>(args_.sum) : args_.out;
  }

  const MatmulArgs& args_;
  [[no_unique_address]] Addition addition_;
  const Grid<V, T>& g_;
  Source<T> a_, b_;
  const bool in_place_, adds_;
  S *buffer_, *panels_, *sums_;
  int64_t row_, column_, row_end_, column_end_;
};

}  // namespace flagscale::op::FLAGSCALE_ISA
