#pragma once
// Errors of *_cuda.cu files: nvcc does not compile fmt's headers.

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace flagscale::cuda {

// Error{kUnsupported}: "[op] has no kernel for cuda in float64"
[[noreturn]] void no_kernel_for(const char* op, DType dtype);
// Error{kUnsupported}: "[op] head_dim is 512: at most 256 on cuda"
[[noreturn]] void too_large(const char* op, const char* what, int64_t value, int64_t most);
// Error{kDevice}: "[op] the GPU did not take the kernel: …"
[[noreturn]] void launch_failed(const char* op, const char* error);
// Error{kUnsupported}: "[op] this GPU or its driver does not run it: …", which the GPU outlives.
[[noreturn]] void not_run_here(const char* op, const char* why);
// Error{kUnsupported}: "[attention] a block needs 136.8 KiB of shared memory, this GPU gives it 99.0"
[[noreturn]] void too_little_shared(const char* op, size_t needed, size_t given);
// Error{kUnsupported}: what cuBLASLt lacks, and for a product that failed where it should not Error{kDevice}.
[[noreturn]] void library_failed(const char* what, const char* why);
[[noreturn]] void product_failed(int64_t m, int64_t n, int64_t k, DType in, DType out, int status);

}  // namespace flagscale::cuda
