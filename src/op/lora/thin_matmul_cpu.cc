// Products with one dimension as small as a rank. The general ones (op/matmul) would fill their register
// tiles a quarter with 8 ranks, and pack what is read once. Here lanes run along k, or along the wide
// matrix's columns, so none is empty whatever the rank; x and `wide` are read where they lie.
#include "op/lora/adapted_linear.h"
#include "op/matmul/panels_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr int64_t kMany = 1 << 20;
constexpr int kTile = F32::kLanes == 16 ? 4 : 2;       // rows, and ranks, of x w^T at once
constexpr int kThinRanks = F32::kLanes == 16 ? 8 : 4;  // of a gradient's tile, which is 2 vectors wide
constexpr int64_t kTaskRows = 32;
constexpr int64_t kTaskColumns = 4 * F32::kLanes;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <class V, class T>
struct Thin {
  using S = typename V::Scalar;
  using U = Units<V, T>;
  const ThinMatmulArgs& args;
  S* w;  // [n][pitch] units along k, zeros past its end
  int64_t k, n, units, pitch;

  explicit Thin(const ThinMatmulArgs& a, S* packed = nullptr) : args(a), w(packed) {
    k = args.x.cols();
    n = args.out.cols();
    units = round_up((k + U::kElements - 1) / U::kElements, V::kLanes);
    pitch = units + 16;  // rows spread over the sets of L1
  }
  int64_t scratch() const { return n * pitch; }

  // kLanes units of every row of w, from unit u on.
  void pack(int64_t u) const {
    const T* const from = args.w.template ptr<const T>();
    if (!args.across)
      return pack_by_row<V, T>({from, args.w.row_stride(), true, k, n}, 0, n, u, V::kLanes, w + u, pitch);
    alignas(64) S square[V::kLanes * V::kLanes];
    for (int64_t j = 0; j < n; j += V::kLanes) {
      pack_by_unit<V, T, V::kLanes>({from, args.w.row_stride(), false, k, n}, j, u, V::kLanes, square);
      V rows[V::kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < V::kLanes; ++i) rows[i] = V::load(square + i * V::kLanes);
      transpose(rows);
#pragma GCC unroll 16
      for (int i = 0; i < V::kLanes; ++i)
        if (j + i < n) rows[i].store(w + (j + i) * pitch + u);
    }
  }

  template <int kRows, int kRanks>
  void tile(int64_t row, int64_t rank) const {
    const int64_t stride = args.x.row_stride();
    const T* const x = args.x.template ptr<const T>() + row * stride;
    const S* const right = w + rank * pitch;
    V sum[kRanks][kRows];
#pragma GCC unroll 4
    for (int j = 0; j < kRanks; ++j)
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) sum[j][i] = V::zero();
    const auto step = [&](int64_t u, int64_t left) __attribute__((always_inline)) {
      V rows[kRows];
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) rows[i] = U::along(x + i * stride + u * U::kElements, left);
#pragma GCC unroll 4
      for (int j = 0; j < kRanks; ++j) {
        const V wj = V::load(right + j * pitch + u);
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) sum[j][i] = U::multiply_add(rows[i], wj, sum[j][i]);
      }
    };
    int64_t u = 0;
    for (; (u + V::kLanes) * U::kElements <= k; u += V::kLanes) step(u, kMany);
    if (u < units) step(u, k - u * U::kElements);
    T* const out = args.out.template ptr<T>() + row * args.out.row_stride() + rank;
    for (int j = 0; j < kRanks; ++j)
      for (int i = 0; i < kRows; ++i)
        put(out + i * args.out.row_stride() + j, static_cast<S>(args.scale) * sum[j][i].sum());
  }

  template <int kRows>
  void rows(int64_t row) const {
    int64_t rank = 0;
    for (; rank + kTile <= n; rank += kTile) tile<kRows, kTile>(row, rank);
    for (; rank < n; ++rank) tile<kRows, 1>(row, rank);
  }

  void run(const Team& team) const {
    team.for_each(units / V::kLanes, [&](int64_t i) { pack(i * V::kLanes); }, 4);
    const int64_t all = args.x.rows();
    team.for_each((all + kTaskRows - 1) / kTaskRows, [&](int64_t task) {
      int64_t row = task * kTaskRows;
      const int64_t end = all < row + kTaskRows ? all : row + kTaskRows;
      for (; row + kTile <= end; row += kTile) rows<kTile>(row);
      for (; row < end; ++row) rows<1>(row);
    });
  }
};

template <class V, class T>
struct Gradient {
  using S = typename V::Scalar;
  using U = Units<V, T>;
  const ThinGradientArgs& args;
  S* thin;  // [n / kLanes][pitch units][kLanes ranks]
  int64_t rows, n, m, units, pitch;

  explicit Gradient(const ThinGradientArgs& a, bool capacity, S* packed = nullptr) : args(a), thin(packed) {
    rows = capacity ? args.thin.dims[0] : args.thin.rows();
    n = args.thin.cols();
    m = args.wide.cols();
    units = (rows + U::kElements - 1) / U::kElements;
    pitch = round_up(units, V::kLanes);
  }
  int64_t scratch() const { return round_up(n, V::kLanes) * pitch; }

  void pack(int64_t u) const {
    const Source<T> from{args.thin.template ptr<const T>(), args.thin.row_stride(), false, rows, n};
    for (int64_t j = 0; j < n; j += V::kLanes)
      pack_by_unit<V, T, V::kLanes>(from, j, u, V::kLanes, thin + j * pitch + u * V::kLanes);
  }

  // Ranks [rank, rank + kRanks) of `columns` <= 2 vectors of columns.
  template <int kRanks>
  void tile(int64_t rank, int64_t column, int64_t columns) const {
    const int64_t stride = args.wide.row_stride(), ahead = 8 * U::kElements * stride;
    const T* p = args.wide.template ptr<const T>() + column;
    const S* left = thin + rank / V::kLanes * V::kLanes * pitch + rank % V::kLanes;
    V sum[kRanks][2];
#pragma GCC unroll 8
    for (int j = 0; j < kRanks; ++j) sum[j][0] = sum[j][1] = V::zero();
    const bool whole = columns == 2 * V::kLanes;
    const auto step = [&](int64_t exist, int64_t first, int64_t second) __attribute__((always_inline)) {
      const V x0 = U::across(p, stride, exist, first), x1 = U::across(p + V::kLanes, stride, exist, second);
#pragma GCC unroll 8
      for (int j = 0; j < kRanks; ++j) {
        const V h = V::set(left[j]);
        sum[j][0] = U::multiply_add(h, x0, sum[j][0]);
        sum[j][1] = U::multiply_add(h, x1, sum[j][1]);
      }
      p += U::kElements * stride, left += V::kLanes;
    };
    int64_t u = 0;
    if (whole)
      for (; (u + 1) * U::kElements <= rows; ++u) {
        for (int e = 0; e < U::kElements; ++e) __builtin_prefetch(p + ahead + e * stride);
        step(kMany, kMany, kMany);
      }
    for (; u < units; ++u) step(rows - u * U::kElements, columns, columns - V::kLanes);
    put_tile<kRanks>(sum, rank, column, columns);
  }

  template <int kRanks>
  void put_tile(const V (&sum)[kRanks][2], int64_t rank, int64_t column, int64_t columns) const {
    const bool add = !args.accumulate || *args.accumulate != 0;
    S* const to = args.sum.template ptr<S>();
    const int64_t stride = args.sum.row_stride();
    for (int j = 0; j < kRanks; ++j) {
      if (!args.transposed) {
        for (int v = 0; v < 2; ++v) {
          S* const at = to + (rank + j) * stride + column + v * V::kLanes;
          const int64_t left = columns - v * V::kLanes;
          (add ? V::load_n(at, left) + sum[j][v] : sum[j][v]).store_n(at, left);
        }
        continue;
      }
      alignas(64) S line[2 * V::kLanes];
      sum[j][0].store(line), sum[j][1].store(line + V::kLanes);
      for (int64_t c = 0; c < columns; ++c) {
        S* const at = to + (column + c) * stride + rank + j;
        *at = add ? *at + line[c] : line[c];
      }
    }
  }

  void task(int64_t first, int64_t end) const {
    for (int64_t c = first; c < end; c += 2 * V::kLanes) {
      const int64_t columns = end - c < 2 * V::kLanes ? end - c : 2 * V::kLanes;
      int64_t rank = 0;
      if constexpr (V::kLanes >= kThinRanks)  // a tile lies within one block of packed ranks
        for (; rank + kThinRanks <= n; rank += kThinRanks) tile<kThinRanks>(rank, c, columns);
      if constexpr (V::kLanes >= 4)
        for (; rank + 4 <= n; rank += 4) tile<4>(rank, c, columns);
      for (; rank < n; ++rank) tile<1>(rank, c, columns);
    }
  }

  void run(const Team& team) const {
    team.for_each(pitch / V::kLanes, [&](int64_t i) { pack(i * V::kLanes); }, 4);
    team.for_each((m + kTaskColumns - 1) / kTaskColumns, [&](int64_t i) {
      const int64_t first = i * kTaskColumns;
      task(first, m < first + kTaskColumns ? m : first + kTaskColumns);
    });
  }
};

void matmul(KernelContext& context, const ThinMatmulArgs& args) {
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    Thin<V, T>(args, reinterpret_cast<typename V::Scalar*>(context.workspace.data())).run(context.team);
  });
}

size_t matmul_workspace(const ThinMatmulArgs& args, int) {
  size_t bytes = 0;
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    bytes = static_cast<size_t>(Thin<V, T>(args).scratch()) * sizeof(typename V::Scalar);
  });
  return bytes;
}

void gradient(KernelContext& context, const ThinGradientArgs& args) {
  for_float_type(args.thin.dtype, [&]<class V, class T>(V, T) {
    auto* const room = reinterpret_cast<typename V::Scalar*>(context.workspace.data());
    Gradient<V, T>(args, false, room).run(context.team);
  });
}

size_t gradient_workspace(const ThinGradientArgs& args, int) {
  size_t bytes = 0;
  for_float_type(args.thin.dtype, [&]<class V, class T>(V, T) {
    bytes = static_cast<size_t>(Gradient<V, T>(args, true).scratch()) * sizeof(typename V::Scalar);
  });
  return bytes;
}

const CpuKernel<ThinMatmulArgs> kMatmulKernel{kThinMatmul, kIsa, &matmul, &matmul_workspace};
const CpuKernel<ThinGradientArgs> kGradientKernel{kThinGradient, kIsa, &gradient, &gradient_workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
