#include "kernel/cuda/errors.h"

#include <string_view>

#include "base/error.h"
#include "base/gib.h"
#include "device/cuda/cuda.h"
#include "kernel/cuda/no_memory.h"

namespace flagscale::cuda {

void no_kernel_for(const char* op, DType dtype) {
  fail(ErrorKind::kUnsupported, "[{}] has no kernel for cuda in {}", op, name(dtype));
}

void too_large(const char* op, const char* what, int64_t value, int64_t most) {
  fail(ErrorKind::kUnsupported, "[{}] {} is {}: at most {} on cuda", op, what, value, most);
}

void no_memory_for(const char* what) {
  fail(ErrorKind::kResource, "the GPU has no memory left for {}: {} of {} are free; {}", what,
       gib(free_memory()), gib(total_memory()), kAskForOthers);
}

void launch_failed(const char* op, const char* error) {
  if (std::string_view(error) == "out of memory")  // its code was not yet loaded
    no_memory_for(fmt::format("the kernel of {}", op).c_str());
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
       "activated), put its folder into LD_LIBRARY_PATH, or name its file in FLAGSCALE_CUBLAS",
       what, why);
}

void product_failed(int64_t m, int64_t n, int64_t k, DType in, DType out, int status) {
  if (status == 3)  // CUBLAS_STATUS_ALLOC_FAILED
    no_memory_for(fmt::format("cuBLASLt's product of [{}, {}] and [{}, {}]", m, k, k, n).c_str());
  const bool device = status == 13 || status == 14;  // CUBLAS_STATUS_EXECUTION_FAILED, _INTERNAL_ERROR
  fail(device ? ErrorKind::kDevice : ErrorKind::kUnsupported,
       "[matmul] cuBLASLt does not multiply [{}, {}] by [{}, {}] in {} to {}: status {}{}{}", m, k, k, n,
       name(in), name(out), status, device ? "; " : "", device ? kAskForXid : "");
}

}  // namespace flagscale::cuda
