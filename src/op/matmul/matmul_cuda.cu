// Products are cuBLASLt's. An odd alignment that it refuses is not met: rows of ours begin at 16 bytes, but
// for tests and heads of an odd size, which a plain kernel multiplies.
#include "kernel/cuda/column_sums.cuh"
#include "kernel/cuda/cublas.h"
#include "op/matmul/matmul.h"
#include "op/matmul/steady_cuda.h"
#include "op/matmul/thin_cuda.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kTile = 16;

template <class T, class C>
struct Plain {
  Rows<const T> a, b;
  Rows<C> c;
  const T* bias;
  int64_t m, n, k;
  bool trans_a, trans_b, add;
};

template <class T, class C>
__global__ void multiply_plainly(Plain<T, C> p) {
  __shared__ float a[kTile][kTile + 1], b[kTile][kTile + 1];
  const int64_t row = int64_t{blockIdx.y} * kTile + threadIdx.y,
                column = int64_t{blockIdx.x} * kTile + threadIdx.x;
  float sum = 0;
  for (int64_t first = 0; first < p.k; first += kTile) {
    const int64_t ka = first + threadIdx.x, kb = first + threadIdx.y;
    a[threadIdx.y][threadIdx.x] =
        row < p.m && ka < p.k ? as_float(p.trans_a ? p.a[ka][row] : p.a[row][ka]) : 0.f;
    b[threadIdx.y][threadIdx.x] =
        column < p.n && kb < p.k ? as_float(p.trans_b ? p.b[column][kb] : p.b[kb][column]) : 0.f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kTile; ++i) sum = fmaf(a[threadIdx.y][i], b[i][threadIdx.x], sum);
    __syncthreads();
  }
  if (row >= p.m || column >= p.n) return;
  if (p.bias) sum += as_float(p.bias[column]);
  if (p.add) sum += as_float(p.c[row][column]);
  put(p.c[row] + column, sum);
}

bool aligned(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 &&
         view.row_stride() * static_cast<int64_t>(size_of(view.dtype)) % 16 == 0;
}

void run(KernelContext& context, const MatmulArgs& args) {
  if (args.steady) return multiply_steadily(args);
  const bool sums = args.sum.defined();
  const TensorView& c = sums ? static_cast<const TensorView&>(args.sum) : args.out;
  const int64_t rows = args.a.rows();
  const int64_t m = args.trans_a ? args.a.dims[1] : rows, k = args.trans_a ? rows : args.a.dims[1];
  const int64_t n = args.b.dims[args.trans_b ? 0 : 1];
  const bool add = sums && (!args.accumulate || *args.accumulate != 0);
  if (m == 0 || n == 0 || (add && (k == 0 || add_thin_product(args)))) return;
  if (k > 0 && aligned(args.a) && aligned(args.b) && aligned(c))
    return multiply({args.a.data, args.b.data, args.bias.defined() ? args.bias.data : nullptr, c.data, m, n,
                     k, args.a.row_stride(), args.b.row_stride(), c.row_stride(), args.trans_a, args.trans_b,
                     add, args.a.dtype, c.dtype},
                    context.workspace.data());
  for_float_type(args.a.dtype, "matmul", [&]<class T>(T) {
    for_float_type(c.dtype, "matmul", [&]<class C>(C) {
      const Plain<T, C> p{rows_of<const T>(args.a),
                          rows_of<const T>(args.b),
                          rows_of<C>(c),
                          args.bias.defined() ? args.bias.ptr<const T>() : nullptr,
                          m,
                          n,
                          k,
                          args.trans_a,
                          args.trans_b,
                          add};
      multiply_plainly<<<dim3(static_cast<unsigned>(divide_up(n, kTile)),
                              static_cast<unsigned>(divide_up(m, kTile))),
                         dim3(kTile, kTile)>>>(p);
    });
  });
  check_launch("matmul");
}

size_t workspace(const MatmulArgs& args, int) { return args.steady ? 0 : kProductWorkspace; }

// Sums of columns: chunks of rows in order, then the chunks in order.
constexpr int64_t kChunk = 128;

template <class T>
__global__ void sum_rows(Rows<const T> dy, int64_t rows, int64_t cols, float* partials) {
  const int64_t column = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (column >= cols) return;
  const int64_t begin = int64_t{blockIdx.x} * kChunk, end = begin + kChunk < rows ? begin + kChunk : rows;
  float total = 0;
  for (int64_t row = begin; row < end; ++row) total += as_float(dy[row][column]);
  partials[int64_t{blockIdx.x} * cols + column] = total;
}

void bias_grad(KernelContext& context, const BiasGradArgs& args) {
  const int64_t rows = args.dy.rows(), cols = args.dy.cols(), chunks = divide_up(rows, kChunk);
  auto* partials = reinterpret_cast<float*>(context.workspace.data());
  for_float_type(args.dy.dtype, "bias_grad", [&]<class T>(T) {
    if (rows > 0)
      sum_rows<<<dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(divide_up(cols, 128))), 128>>>(
          rows_of<const T>(args.dy), rows, cols, partials);
  });
  add_columns("bias_grad", partials, args.dbias, cols, chunks, !args.accumulate || *args.accumulate != 0);
  check_launch("bias_grad");
}

size_t bias_grad_workspace(const BiasGradArgs& args, int) {
  return static_cast<size_t>(divide_up(args.dy.dims[0], kChunk) * args.dy.cols()) * sizeof(float);
}

const CudaKernel<MatmulArgs> kKernel{kMatmul, &run, &workspace};
const CudaKernel<BiasGradArgs> kBiasKernel{kBiasGrad, &bias_grad, &bias_grad_workspace};

}  // namespace
}  // namespace flagscale::op
