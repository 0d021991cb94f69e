#pragma once
// What *_cuda.cu files share: numbers of a type seen as floats, vectors of them, sums over a block, launches.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernel/cuda/errors.h"
#include "kernel/kernel.h"

namespace flagscale::cuda {

using bf16 = __nv_bfloat16;

__device__ inline float as_float(float x) { return x; }
__device__ inline float as_float(bf16 x) { return __bfloat162float(x); }
__device__ inline void put(float* to, float x) { *to = x; }
__device__ inline void put(bf16* to, float x) { *to = __float2bfloat16_rn(x); }

// N neighbouring numbers in one load or store: 16 bytes where N is kWide<T>.
template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

template <int N, class T>
struct alignas(N * sizeof(T)) Pack {
  T at[N];
};
template <int N, class T>
__device__ inline void load(const T* from, float (&to)[N]) {
  const auto pack = *reinterpret_cast<const Pack<N, T>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = as_float(pack.at[i]);
}
template <int N, class T>
__device__ inline void store(T* to, const float (&from)[N]) {
  Pack<N, T> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) put(&pack.at[i], from[i]);
  *reinterpret_cast<Pack<N, T>*>(to) = pack;
}

// A [rows, cols] view in a kernel.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  __device__ T* operator[](int64_t row) const { return data + row * stride; }
};
template <class T>
Rows<T> rows_of(const TensorView& view) {
  return {view.ptr<T>(), view.row_stride()};
}

// Whether every row may be read in packs of 16 bytes.
inline bool wide(const TensorView& view) {
  if (!view.defined()) return true;
  const auto element = static_cast<int64_t>(size_of(view.dtype));
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.row_stride() * element % 16 == 0 &&
         view.cols() * element % 16 == 0;
}

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// The sum over a block of at most 1024 threads, on every thread; the same order every time.
__device__ inline float block_sum(float x) {
  __shared__ float partial[32];
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x + 31) / 32;
  x = warp_sum(x);
  __syncthreads();  // a sum before this one has been read
  if (threadIdx.x % 32 == 0) partial[warp] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < warps; ++i) total += partial[i];
  return total;
}

// body(float{}) or body(bf16{}). The double kernels are the CPU's: they are for checking gradients.
template <class Body>
void for_float_type(DType dtype, const char* op, Body&& body) {
  if (dtype == DType::kF32)
    body(float{});
  else if (dtype == DType::kBF16)
    body(bf16{});
  else
    no_kernel_for(op, dtype);
}

// The calling thread's GPU: its compute capability, 90 for 9.0, and its multiprocessors.
int capability();
int processors();

// Shared memory of a block: 227 KiB on GPUs of compute capability 9 to 11; others, but for 8.0 and 8.7, have
// 99, and code that is compiled for them keeps within that. Host code asks with capability().
constexpr size_t kSharedAnywhere = size_t{99} << 10;
constexpr bool is_roomy(int capability) { return capability >= 90 && capability < 120; }
#ifdef __CUDA_ARCH__
constexpr bool kRoomy = is_roomy(__CUDA_ARCH__ / 10);
#else
constexpr bool kRoomy = true;
#endif
size_t shared_of_block();
size_t shared_of_one_block();  // that leaves a multiprocessor no room for a second one

// Lets a kernel have more shared memory than is usual; where the GPU has less, says so.
void allow_shared(const char* op, const void* kernel, size_t bytes);
template <class... Parameters>
void allow_shared(const char* op, void (*kernel)(Parameters...), size_t bytes) {
  allow_shared(op, reinterpret_cast<const void*>(kernel), bytes);
}

inline void check_launch(const char* op) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaErrorInvalidValue || error == cudaErrorInvalidConfiguration)
    not_run_here(op, cudaGetErrorString(error));
  if (error != cudaSuccess) launch_failed(op, cudaGetErrorString(error));
}

// Kernels of a step follow one another closely: one that was launched early may start while the one before it
// ends, and waits for all that was written before it uses any of it (programmatic dependent launch; before
// compute capability 9 it starts when the one before it has ended).
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// kernel must call wait_for_previous() before it reads or writes what other kernels write or read.
template <class... Parameters, class... Arguments>
void launch_early(void (*kernel)(Parameters...), dim3 blocks, int threads, size_t shared,
                  Arguments&&... arguments) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = cudaStreamPerThread;
  config.attrs = &early;
  config.numAttrs = capability() >= 90 ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Threads of a block that walks a row of `cols` numbers, N at a time.
inline int row_threads(int64_t cols, int n) {
  const int64_t wanted = divide_up(divide_up(cols, n), 32) * 32;
  return static_cast<int>(wanted < 32 ? 32 : wanted > 512 ? 512 : wanted);
}

template <class Args>
struct CudaKernel {
  CudaKernel(KernelSlot<Args>& slot, typename KernelSlot<Args>::Kernel* kernel,
             typename KernelSlot<Args>::Workspace* workspace = nullptr) {
    slot.set(DeviceKind::kCuda, Isa::kCuda, kernel, workspace);
  }
};

}  // namespace flagscale::cuda
