// Bound by memory: forward reads two numbers and writes one, backward reads three and writes two. In bf16 the
// exponential and the division are the processor's short ones, or arithmetic would bind.
#include "kernel/cuda/cuda.cuh"
#include "op/fp8_product/largest_cuda.cuh"
#include "op/swiglu/swiglu.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

template <class T>
__device__ float sigmoid(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __fdividef(1.f, 1.f + __expf(-x));
  else
    return 1.f / (1.f + expf(-x));
}

template <int N, class T>
__global__ void forward_rows(Rows<const T> gate, Rows<const T> up, Rows<T> y, int64_t cols,
                             uint32_t* largest) {
  let_next_start();
  wait_for_previous();
  uint32_t most = 0;
  const int64_t row = blockIdx.x, i = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (i < cols) {
    float g[N], u[N];
    load(gate[row] + i, g);
    load(up[row] + i, u);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      g[j] = g[j] * sigmoid<T>(g[j]) * u[j];
      take_larger(most, g[j]);
    }
    store(y[row] + i, g);
  }
  if (largest) add_largest(largest, most);
}

template <int N, class T>
__global__ void backward_rows(Rows<const T> gate, Rows<const T> up, Rows<const T> dy, Rows<T> dgate,
                              Rows<T> dup, Rows<T> y, int64_t cols, uint32_t* largest) {
  let_next_start();
  wait_for_previous();
  uint32_t most = 0;
  const int64_t row = blockIdx.x;
  for (int64_t i = int64_t{threadIdx.x} * N; i < cols; i += int64_t{blockDim.x} * N) {
    float g[N], u[N], d[N], again[N];
    load(gate[row] + i, g);
    load(up[row] + i, u);
    load(dy[row] + i, d);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float s = sigmoid<T>(g[j]), slope = s * fmaf(g[j], 1.f - s, 1.f);  // silu'(g) = s (1 + g (1 - s))
      again[j] = g[j] * s * u[j];
      u[j] = d[j] * u[j] * slope;
      d[j] = d[j] * g[j] * s;
      take_larger(most, u[j]);
      take_larger(most, d[j]);
    }
    store(dgate[row] + i, u);
    store(dup[row] + i, d);
    if (y.data) store(y[row] + i, again);
  }
  if (largest) add_largest(largest, most);
}

void forward(KernelContext&, const SwigluArgs& args) {
  const int64_t rows = args.y.rows(), cols = args.y.cols();
  uint32_t* largest = largest_parts(args.largest);
  if (largest) clear_largest(largest);
  if (rows == 0) return;
  for_float_type(args.y.dtype, "swiglu", [&]<class T>(T) {
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      constexpr int kThreads = 128;
      launch_early(forward_rows<N, T>,
                   dim3(static_cast<unsigned>(rows), static_cast<unsigned>(divide_up(cols, N * kThreads))),
                   kThreads, 0, rows_of<const T>(args.gate), rows_of<const T>(args.up), rows_of<T>(args.y),
                   cols, largest);
    };
    if (wide(args.gate) && wide(args.up) && wide(args.y))
      run(std::integral_constant<int, kWide<T>>{});
    else
      run(std::integral_constant<int, 1>{});
  });
  check_launch("swiglu");
}

void backward(KernelContext&, const SwigluBackwardArgs& args) {
  const int64_t rows = args.dy.rows(), cols = args.dy.cols();
  uint32_t* largest = largest_parts(args.largest);
  if (largest) clear_largest(largest);
  if (rows == 0) return;
  for_float_type(args.dy.dtype, "swiglu_backward", [&]<class T>(T) {
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      launch_early(backward_rows<N, T>, dim3(static_cast<unsigned>(rows)), row_threads(cols, N), 0,
                   rows_of<const T>(args.gate), rows_of<const T>(args.up), rows_of<const T>(args.dy),
                   rows_of<T>(args.dgate), rows_of<T>(args.dup),
                   args.y.defined() ? rows_of<T>(args.y) : Rows<T>{}, cols, largest);
    };
    if (wide(args.gate) && wide(args.up) && wide(args.dy) && wide(args.dgate) && wide(args.dup) &&
        wide(args.y))
      run(std::integral_constant<int, kWide<T>>{});
    else
      run(std::integral_constant<int, 1>{});
  });
  check_launch("swiglu_backward");
}

const CudaKernel<SwigluArgs> kForward{kSwiglu, &forward};
const CudaKernel<SwigluBackwardArgs> kBackward{kSwigluBackward, &backward};

}  // namespace
}  // namespace flagscale::op
