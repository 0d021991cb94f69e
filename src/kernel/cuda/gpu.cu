#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/warpgroup.cuh"

namespace flagscale::cuda {

namespace {

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, which, device);
  return value;
}

}  // namespace

int capability() {
  static const int found =
      attribute(cudaDevAttrComputeCapabilityMajor) * 10 + attribute(cudaDevAttrComputeCapabilityMinor);
  return found;
}

bool on_hopper() { return capability() == 90; }

int processors() {
  static const int found = attribute(cudaDevAttrMultiProcessorCount);
  return found;
}

size_t shared_of_block() {
  static const auto found = static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  return found;
}

size_t shared_of_one_block() {
  static const auto found = static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
  return found / 2 + (size_t{6} << 10);
}

void allow_shared(const char* op, const void* kernel, size_t bytes) {
  if (bytes > shared_of_block()) too_little_shared(op, bytes, shared_of_block());
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it is said here, and not of the next kernel
  launch_failed(op, cudaGetErrorString(error));
}

}  // namespace flagscale::cuda
