#include "kernel/cuda/errors.h"

#include "base/error.h"
#include "device/cuda/cuda.h"

namespace flagscale::cuda {

void no_kernel_for(const char* op, DType dtype) {
  fail(ErrorKind::kUnsupported, "[{}] has no kernel for cuda in {}", op, name(dtype));
}

void too_large(const char* op, const char* what, int64_t value, int64_t most) {
  fail(ErrorKind::kUnsupported, "[{}] {} is {}: at most {} on cuda", op, what, value, most);
}

void launch_failed(const char* op, const char* error) {
  fail(ErrorKind::kDevice, "[{}] the GPU did not take the kernel: {}; {}", op, error, kAskForXid);
}

void not_run_here(const char* op, const char* why) {
  fail(ErrorKind::kUnsupported, "[{}] this GPU or its driver does not run it: {}", op, why);
}

void too_little_shared(const char* op, size_t needed, size_t given) {
  fail(ErrorKind::kUnsupported,
       "[{}] a block needs {:.1f} KiB of shared memory, this GPU gives it {:.1f}: use --device cpu", op,
       static_cast<double>(needed) / 1024, static_cast<double>(given) / 1024);
}

void library_failed(const char* what, const char* why) {
  fail(ErrorKind::kUnsupported,
       "{}: {}; install cuBLAS of CUDA 12.9 or newer (pip install nvidia-cublas, in an environment that is "
       "activated), or put its folder into LD_LIBRARY_PATH",
       what, why);
}

void product_failed(int64_t m, int64_t n, int64_t k, DType in, DType out, int status) {
  const bool device = status == 13 || status == 14;  // CUBLAS_STATUS_EXECUTION_FAILED, _INTERNAL_ERROR
  fail(device ? ErrorKind::kDevice : ErrorKind::kUnsupported,
       "[matmul] cuBLASLt does not multiply [{}, {}] by [{}, {}] in {} to {}: status {}{}{}", m, k, k, n,
       name(in), name(out), status, device ? "; " : "", device ? kAskForXid : "");
}

}  // namespace flagscale::cuda
