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

bool on_hopper() {
  static const bool found = attribute(cudaDevAttrComputeCapabilityMajor) == 9;
  return found;
}

int processors() {
  static const int found = attribute(cudaDevAttrMultiProcessorCount);
  return found;
}

}  // namespace flagscale::cuda
