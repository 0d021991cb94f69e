#pragma once
// The second step of sums of columns whose first one sums chunks of rows.

#include "kernel/cuda/cuda.cuh"

namespace flagscale::cuda {

// sums[columns] (+)= partials[chunks][columns]: every 32nd chunk in order, then those sums in order; rounded
// once.
template <class T>
__global__ void add_partial_columns(const float* partials, T* sums, int64_t columns, int64_t chunks,
                                    bool add) {
  __shared__ float sum_of[32][33];
  const int64_t column = int64_t{blockIdx.x} * 32 + threadIdx.x;
  float total = 0;
  if (column < columns)
#pragma unroll 4
    for (int64_t c = threadIdx.y; c < chunks; c += 32) total += partials[c * columns + column];
  sum_of[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  total = add ? as_float(sums[column]) : 0.f;
  for (int i = 0; i < 32; ++i) total += sum_of[i][threadIdx.x];
  put(sums + column, total);
}

// sums: fp32 or bf16.
inline void add_columns(const char* op, const float* partials, const TensorView& sums, int64_t columns,
                        int64_t chunks, bool add) {
  for_float_type(sums.dtype, op, [&]<class T>(T) {
    add_partial_columns<<<static_cast<unsigned>(divide_up(columns, 32)), dim3(32, 32)>>>(
        partials, sums.ptr<T>(), columns, chunks, add);
  });
}

}  // namespace flagscale::cuda
