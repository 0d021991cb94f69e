// Bound by memory: each number is read and written once.
#include "kernel/cuda/cuda.cuh"
#include "op/elementwise/elementwise.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 256;

// body(row, column) for every Nth column of every row.
template <int N, class Body>
__global__ void each(int64_t rows, int64_t cols, Body body) {
  const int64_t packs = cols / N;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < rows * packs;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t row = rows == 1 ? 0 : i / packs;  // a division takes as long as the rest
    body(row, (i - row * packs) * N);
  }
}

template <int N, class Body>
void launch_each(const char* op, int64_t rows, int64_t cols, Body body,
                 cudaStream_t stream = cudaStreamPerThread) {
  const int64_t blocks = divide_up(rows * (cols / N), kThreads);
  if (blocks == 0) return;
  each<N><<<static_cast<unsigned>(blocks < 16384 ? blocks : 16384), kThreads, 0, stream>>>(rows, cols, body);
  check_launch(op);
}

template <class T, int N>
struct AddBody {
  Rows<const T> a, b;
  Rows<T> out;
  __device__ void operator()(int64_t row, int64_t column) const {
    float x[N], y[N];
    load(a[row] + column, x);
    load(b[row] + column, y);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] += y[i];
    store(out[row] + column, x);
  }
};

template <class From, class To, int N>
struct CastBody {
  Rows<const From> from;
  Rows<To> to;
  __device__ void operator()(int64_t row, int64_t column) const {
    float x[N];
    load(from[row] + column, x);
    store(to[row] + column, x);
  }
};

void add(KernelContext&, const AddArgs& args) {
  for_float_type(args.out.dtype, "add", [&]<class T>(T) {
    constexpr int kN = kWide<T>;
    const auto a = rows_of<const T>(args.a), b = rows_of<const T>(args.b);
    const auto out = rows_of<T>(args.out);
    const int64_t rows = args.out.rows(), cols = args.out.cols();
    const auto stream = args.stream ? static_cast<cudaStream_t>(args.stream) : cudaStreamPerThread;
    if (wide(args.a) && wide(args.b) && wide(args.out))
      launch_each<kN>("add", rows, cols, AddBody<T, kN>{a, b, out}, stream);
    else
      launch_each<1>("add", rows, cols, AddBody<T, 1>{a, b, out}, stream);
  });
}

void zero(KernelContext&, const ZeroArgs& args) {
  const size_t size = size_of(args.out.dtype), rows = static_cast<size_t>(args.out.rows());
  cudaMemset2DAsync(args.out.data, static_cast<size_t>(args.out.row_stride()) * size, 0,
                    static_cast<size_t>(args.out.cols()) * size, rows);
  check_launch("zero");
}

template <class From, class To>
void cast_to(const CastArgs& args) {
  const auto from = rows_of<const From>(args.x);
  const auto to = rows_of<To>(args.out);
  const int64_t rows = args.out.rows(), cols = args.out.cols();
  if (wide(args.x) && wide(args.out))
    launch_each<4>("cast", rows, cols, CastBody<From, To, 4>{from, to});
  else
    launch_each<1>("cast", rows, cols, CastBody<From, To, 1>{from, to});
}

void cast(KernelContext&, const CastArgs& args) {
  for_float_type(args.x.dtype, "cast", [&]<class From>(From) {
    for_float_type(args.out.dtype, "cast", [&]<class To>(To) { cast_to<From, To>(args); });
  });
}

const CudaKernel<AddArgs> kAddKernel{kAdd, &add};
const CudaKernel<ZeroArgs> kZeroKernel{kZero, &zero};
const CudaKernel<CastArgs> kCastKernel{kCast, &cast};

}  // namespace
}  // namespace flagscale::op
