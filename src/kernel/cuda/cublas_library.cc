#include <dlfcn.h>
#include <fmt/format.h>

#include "base/library_function.h"
#include "kernel/cuda/cublas.h"
#include "kernel/cuda/errors.h"

namespace flagscale::cuda {

void* cublas_library() {
  static void* const opened = [] {
    void* library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen("libcublasLt.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!library) library_failed("cuBLASLt is not found", dlerror());
    size_t (*version)() = nullptr;
    const size_t is = find_function(library, "cublasLtGetVersion", version) ? version() : 0;
    if (is < kOldestCublas)
      library_failed("cuBLASLt is too old", fmt::format("it is {}.{}", is / 10000, is % 10000 / 100).c_str());
    return library;
  }();
  return opened;
}

}  // namespace flagscale::cuda
