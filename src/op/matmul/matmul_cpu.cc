// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008: blocks of kDepth along k are packed
// into panels of kRows of a and kLanes * 2 columns of b, and register tiles run over them. bf16 is widened to fp32 while
// packing. Each output is summed along k in order, block after block.
#include "op/matmul/matmul.h"

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int64_t kDepth = 384;

template <class V>
struct Tile {
  // Accumulators fill the registers: 14 x 2 of 32, or 6 x 2 of 16.
  static constexpr int kRows = V::kLanes == 16 ? 14 : 6;
  static constexpr int kColumns = 2 * V::kLanes;
};

struct Product {
  int64_t m, n, k;
  int64_t row_panels, column_panels;
};

template <class V>
Product product_of(const MatmulArgs& args, bool capacity) {
  const TensorView& a = args.a;
  const int64_t rows = capacity ? a.dims[0] : a.rows();
  Product p{};
  p.m = args.trans_a ? a.dims[1] : rows;
  p.k = args.trans_a ? rows : a.dims[1];
  p.n = args.b.dims[args.trans_b ? 0 : 1];
  p.row_panels = (p.m + Tile<V>::kRows - 1) / Tile<V>::kRows;
  p.column_panels = (p.n + Tile<V>::kColumns - 1) / Tile<V>::kColumns;
  return p;
}

// panel[k][width] from `width` columns of x (k along rows), zero-padded past `columns`.
template <class S, class T>
void pack_columns(const T* x, int64_t stride, int64_t depth, int64_t columns, int width, S* panel) {
  for (int64_t k = 0; k < depth; ++k, x += stride, panel += width) {
    for (int64_t j = 0; j < columns; ++j) panel[j] = as_float(x[j]);
    for (int64_t j = columns; j < width; ++j) panel[j] = 0;
  }
}

// The same from rows of x (k along columns).
template <class S, class T>
void pack_rows(const T* x, int64_t stride, int64_t depth, int64_t rows, int width, S* panel) {
  constexpr int64_t kStep = 16;  // a cache line of each row at a time
  for (int64_t k0 = 0; k0 < depth; k0 += kStep) {
    const int64_t end = k0 + kStep < depth ? k0 + kStep : depth;
    for (int64_t j = 0; j < rows; ++j)
      for (int64_t k = k0; k < end; ++k) panel[k * width + j] = as_float(x[j * stride + k]);
    for (int64_t j = rows; j < width; ++j)
      for (int64_t k = k0; k < end; ++k) panel[k * width + j] = 0;
  }
}

template <class V, class T>
void pack(const TensorView& x, bool along_columns, int64_t k0, int64_t depth, int64_t first, int64_t total, int width,
          typename V::Scalar* panel) {
  const int64_t count = total - first < width ? total - first : width;
  const T* p = x.ptr<const T>();
  if (along_columns) pack_rows(p + first * x.row_stride() + k0, x.row_stride(), depth, count, width, panel);
  else pack_columns(p + k0 * x.row_stride() + first, x.row_stride(), depth, count, width, panel);
}

// tile[kRows][kColumns] = a panel (depth x kRows) times b panel (depth x kColumns)
template <class V>
void multiply(const typename V::Scalar* a, const typename V::Scalar* b, int64_t depth, typename V::Scalar* tile) {
  constexpr int kRows = Tile<V>::kRows;
  V left[kRows], right[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) left[i] = right[i] = V::zero();
  for (int64_t k = 0; k < depth; ++k, a += kRows, b += Tile<V>::kColumns) {
    const V b0 = V::load(b), b1 = V::load(b + V::kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V ai = V::set(a[i]);
      left[i] = V::fma(ai, b0, left[i]);
      right[i] = V::fma(ai, b1, right[i]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    left[i].store(tile + i * Tile<V>::kColumns);
    right[i].store(tile + i * Tile<V>::kColumns + V::kLanes);
  }
}

// c (+)= tile, clipped to the matrix; bias is added with the first block.
template <class V, class C>
void put_tile(const typename V::Scalar* tile, C* c, int64_t stride, int64_t rows, int64_t columns, bool add,
              const typename V::Scalar* bias) {
  for (int64_t i = 0; i < rows; ++i)
    for_lanes<V>(columns, [&](int64_t j, int64_t n) {
      V x = V::load(tile + i * Tile<V>::kColumns + j);
      if (add) x = x + V::load_n(c + i * stride + j, n);
      if (bias) x = x + V::load_n(bias + j, n);
      x.store_n(c + i * stride + j, n);
    });
}

template <class V, class T>
struct Runner {
  using S = typename V::Scalar;
  const KernelContext& context;
  const MatmulArgs& args;
  Product p;
  S *packed_a, *packed_b, *sums;  // sums: fp32 [m, n] where the result is narrower and k has several blocks

  void run() {
    for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) block(k0, p.k - k0 < kDepth ? p.k - k0 : kDepth);
  }

  void block(int64_t k0, int64_t depth) {
    constexpr int kRows = Tile<V>::kRows, kColumns = Tile<V>::kColumns;
    context.team.for_each(p.row_panels + p.column_panels, [&](int64_t i) {
      if (i < p.row_panels) {
        pack<V, T>(args.a, !args.trans_a, k0, depth, i * kRows, p.m, kRows, packed_a + i * kRows * depth);
      } else {
        const int64_t j = i - p.row_panels;
        pack<V, T>(args.b, args.trans_b, k0, depth, j * kColumns, p.n, kColumns, packed_b + j * kColumns * depth);
      }
    }, 4);
    // A strip of a stays in L2 while the panels of b stream past it.
    constexpr int64_t kStrip = 8, kGroup = 16;
    const int64_t strips = (p.row_panels + kStrip - 1) / kStrip, groups = (p.column_panels + kGroup - 1) / kGroup;
    context.team.for_each(strips * groups, [&](int64_t i) {
      const int64_t r0 = i % strips * kStrip, c0 = i / strips * kGroup;
      for (int64_t c = c0; c < c0 + kGroup && c < p.column_panels; ++c)
        for (int64_t r = r0; r < r0 + kStrip && r < p.row_panels; ++r) tile(r, c, k0, depth);
    });
  }

  void tile(int64_t r, int64_t c, int64_t k0, int64_t depth) {
    constexpr int kRows = Tile<V>::kRows, kColumns = Tile<V>::kColumns;
    alignas(64) S buffer[kRows * kColumns];
    multiply<V>(packed_a + r * kRows * depth, packed_b + c * kColumns * depth, depth, buffer);
    const int64_t row = r * kRows, column = c * kColumns;
    const int64_t rows = p.m - row < kRows ? p.m - row : kRows, columns = p.n - column < kColumns ? p.n - column : kColumns;
    const bool first = k0 == 0, last = k0 + depth == p.k;
    S bias_block[kColumns];
    const S* bias = nullptr;
    if (args.bias.defined() && first) {
      for (int64_t j = 0; j < columns; ++j) bias_block[j] = as_float(args.bias.ptr<const T>()[column + j]);
      bias = bias_block;
    }
    if (args.sum.defined()) {
      const bool overwrite = first && args.accumulate && *args.accumulate == 0;
      S* out = args.sum.ptr<S>() + row * args.sum.row_stride() + column;
      put_tile<V>(buffer, out, args.sum.row_stride(), rows, columns, !overwrite, bias);
    } else if (args.out.dtype != DType::kBF16) {
      S* out = args.out.ptr<S>() + row * args.out.row_stride() + column;
      put_tile<V>(buffer, out, args.out.row_stride(), rows, columns, !first, bias);
    } else {
      if (!(first && last)) put_tile<V>(buffer, sums + row * p.n + column, p.n, rows, columns, !first, bias);
      if (!last) return;
      BF16* out = args.out.ptr<BF16>() + row * args.out.row_stride() + column;
      if (first) put_tile<V>(buffer, out, args.out.row_stride(), rows, columns, false, bias);
      else
        for (int64_t i = 0; i < rows; ++i)
          for_lanes<V>(columns, [&](int64_t j, int64_t n) {
            V::load_n(sums + (row + i) * p.n + column + j, n).store_n(out + i * args.out.row_stride() + j, n);
          });
    }
  }
};

template <class V>
struct Workspace {
  size_t a, b, total;
  explicit Workspace(const MatmulArgs& args) {
    const Product p = product_of<V>(args, true);
    const int64_t depth = p.k < kDepth ? p.k : kDepth;
    const auto rounded = [](int64_t n) { return static_cast<size_t>((n + 15) / 16 * 16) * sizeof(typename V::Scalar); };
    a = rounded(p.row_panels * Tile<V>::kRows * depth);
    b = rounded(p.column_panels * Tile<V>::kColumns * depth);
    const bool keeps = args.out.defined() && args.out.dtype == DType::kBF16 && p.k > kDepth;
    total = a + b + (keeps ? rounded(p.m * p.n) : 0);
  }
};

void run(KernelContext& context, const MatmulArgs& args) {
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const Workspace<V> w(args);
    std::byte* base = context.workspace.data();
    Runner<V, T>{context, args, product_of<V>(args, false), reinterpret_cast<S*>(base), reinterpret_cast<S*>(base + w.a),
                 reinterpret_cast<S*>(base + w.a + w.b)}.run();
  });
}

size_t workspace(const MatmulArgs& args, int) {
  size_t bytes = 0;
  for_float_type(args.a.dtype, [&]<class V, class T>(V, T) { bytes = Workspace<V>(args).total; });
  return bytes;
}

void bias_grad(KernelContext& context, const BiasGradArgs& args) {
  const bool add = !args.accumulate || *args.accumulate != 0;
  for_float_type(args.dy.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const int64_t n = args.dy.cols(), rows = args.dy.rows();
    context.team.for_each((n + 63) / 64, [&](int64_t block) {
      const int64_t first = block * 64;
      for_lanes<V>(n - first < 64 ? n - first : 64, [&](int64_t j, int64_t m) {
        S* out = args.dbias.ptr<S>() + first + j;
        V sum = add ? V::load_n(out, m) : V::zero();
        for (int64_t row = 0; row < rows; ++row)
          sum = sum + V::load_n(args.dy.ptr<const T>() + row * args.dy.row_stride() + first + j, m);
        sum.store_n(out, m);
      });
    });
  });
}

const CpuKernel<MatmulArgs> kKernel{kMatmul, kIsa, &run, &workspace};
const CpuKernel<BiasGradArgs> kBiasKernel{kBiasGrad, kIsa, &bias_grad};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
