#pragma once
// Where cuBLASLt is looked for.

#include <string>
#include <vector>

namespace flagscale::cuda {

// FLAGSCALE_CUBLAS, a file, alone where it is set. Else names for dlopen(), in order: libcublasLt.so.13 and
// .12 wherever the loader looks (LD_LIBRARY_PATH, the lib/ of an archive, the system's), then files that are
// there: of CUDA_HOME, CUDA_PATH and /usr/local/cuda; of NVIDIA's wheels in the activated environment
// (VIRTUAL_ENV, CONDA_PREFIX) and in the .deps/cuda of the repository in which the program was built.
std::vector<std::string> cublas_places();

}  // namespace flagscale::cuda
