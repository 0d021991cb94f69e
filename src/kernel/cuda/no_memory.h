#pragma once

namespace flagscale::cuda {

// Throws Error{kResource} with what the GPU has free. `what`: "cuBLASLt".
[[noreturn]] void no_memory_for(const char* what);

}  // namespace flagscale::cuda
