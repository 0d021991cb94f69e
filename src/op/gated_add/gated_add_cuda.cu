// Bound by memory: a block a row.
#include "kernel/cuda/cuda.cuh"
#include "op/gated_add/gated_add.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

template <class G>
__device__ float opened(const G* gates, int64_t row) {
  return 1.f / (1.f + expf(-as_float(gates[row])));
}

template <int N, class T, class G>
__global__ void add_rows(Rows<const T> a, Rows<const T> b, const G* gates, Rows<T> y, int64_t cols) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const float gate = opened(gates, row);
  for (int64_t i = int64_t{threadIdx.x} * N; i < cols; i += int64_t{blockDim.x} * N) {
    float v[N], w[N];
    load(a[row] + i, v);
    load(b[row] + i, w);
#pragma unroll
    for (int j = 0; j < N; ++j) v[j] = fmaf(gate, w[j], v[j]);
    store(y[row] + i, v);
  }
}

template <int N, class T, class G>
__global__ void add_rows_backward(Rows<const T> b, const G* gates, Rows<const T> dy, Rows<T> db, G* dgates,
                                  int64_t cols) {
  const int64_t row = blockIdx.x;
  const float gate = opened(gates, row);
  float dot = 0;
  for (int64_t i = int64_t{threadIdx.x} * N; i < cols; i += int64_t{blockDim.x} * N) {
    float d[N], w[N];
    load(dy[row] + i, d);
    load(b[row] + i, w);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      dot = fmaf(d[j], w[j], dot);
      d[j] *= gate;
    }
    store(db[row] + i, d);
  }
  dot = block_sum(dot);
  if (threadIdx.x == 0) put(dgates + row, dot * gate * (1.f - gate));
}

// run(N, T, G): numbers at a time, types of the rows and of the gates.
template <class Run>
void by_types(DType rows, DType gates, bool packed, Run&& run) {
  for_float_type(rows, "gated_add", [&]<class T>(T of_rows) {
    for_float_type(gates, "gated_add", [&]<class G>(G of_gates) {
      packed ? run(std::integral_constant<int, kWide<T>>{}, of_rows, of_gates)
             : run(std::integral_constant<int, 1>{}, of_rows, of_gates);
    });
  });
  check_launch("gated_add");
}

void forward(KernelContext&, const GatedAddArgs& args) {
  const int64_t rows = args.y.rows(), cols = args.y.cols();
  if (rows == 0) return;
  by_types(args.y.dtype, args.gate.dtype, wide(args.a) && wide(args.b) && wide(args.y),
           [&]<int N, class T, class G>(std::integral_constant<int, N>, T, G) {
             launch_early(add_rows<N, T, G>, dim3(static_cast<unsigned>(rows)), row_threads(cols, N), 0,
                          rows_of<const T>(args.a), rows_of<const T>(args.b), args.gate.ptr<const G>(),
                          rows_of<T>(args.y), cols);
           });
}

void backward(KernelContext&, const GatedAddBackwardArgs& args) {
  const int64_t rows = args.dy.rows(), cols = args.dy.cols();
  if (rows == 0) return;
  by_types(args.dy.dtype, args.gate.dtype, wide(args.b) && wide(args.dy) && wide(args.db),
           [&]<int N, class T, class G>(std::integral_constant<int, N>, T, G) {
             add_rows_backward<N><<<static_cast<unsigned>(rows), row_threads(cols, N)>>>(
                 rows_of<const T>(args.b), args.gate.ptr<const G>(), rows_of<const T>(args.dy),
                 rows_of<T>(args.db), args.dgate.ptr<G>(), cols);
           });
}

const CudaKernel<GatedAddArgs> kForward{kGatedAdd, &forward};
const CudaKernel<GatedAddBackwardArgs> kBackward{kGatedAddBackward, &backward};

}  // namespace
}  // namespace flagscale::op
