#include <dlfcn.h>
#include <fmt/format.h>

#include "base/library_function.h"
#include "kernel/cuda/cublas.h"
#include "kernel/cuda/cublas_places.h"
#include "kernel/cuda/errors.h"

namespace flagscale::cuda {

void* cublas_library() {
  static void* const opened = [] {
    void* library = nullptr;
    std::string why;  // of the newest, which is what ./dev cuda and pip bring
    for (const std::string& file : cublas_places()) {
      if ((library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL))) break;
      if (const char* said = dlerror(); why.empty() || file.starts_with('/')) why = said;
    }
    if (!library) library_failed("cuBLASLt is not found", why.c_str());
    size_t (*version)() = nullptr;
    const size_t is = find_function(library, "cublasLtGetVersion", version) ? version() : 0;
    if (is < kOldestCublas)
      library_failed("cuBLASLt is too old", fmt::format("it is {}.{}", is / 10000, is % 10000 / 100).c_str());
    return library;
  }();
  return opened;
}

}  // namespace flagscale::cuda
