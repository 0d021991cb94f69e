#include <dlfcn.h>
#include <fmt/format.h>

#include "base/library_function.h"
#include "kernel/cuda/cublas.h"
#include "kernel/cuda/cublas_places.h"
#include "kernel/cuda/errors.h"

namespace flagscale::cuda {
namespace {

size_t version_of(void* library) {
  size_t (*version)() = nullptr;
  return find_function(library, "cublasLtGetVersion", version) ? version() : 0;
}

// The first that is new enough.
void* open_cublas() {
  std::string missing, old;
  for (const std::string& file : cublas_places()) {
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      if (const char* why = dlerror(); missing.empty() || file.starts_with('/')) missing = why;
    } else if (const size_t is = version_of(library); is >= kOldestCublas) {
      return library;
    } else {
      if (old.empty()) old = fmt::format("{} is {}.{}", file, is / 10000, is % 10000 / 100);
      dlclose(library);
    }
  }
  if (!old.empty()) library_failed("cuBLASLt is too old", old.c_str());
  library_failed("cuBLASLt is not found", missing.c_str());
}

}  // namespace

void* cublas_library() {
  static void* const opened = open_cublas();
  return opened;
}

}  // namespace flagscale::cuda
