#include <dlfcn.h>

#include "kernel/cuda/cublas.h"
#include "kernel/cuda/errors.h"

namespace flagscale::cuda {

void* cublas_library() {
  static void* const opened = [] {
    void* library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen("libcublasLt.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!library) library_failed("cuBLASLt is not found", dlerror());
    return library;
  }();
  return opened;
}

}  // namespace flagscale::cuda
