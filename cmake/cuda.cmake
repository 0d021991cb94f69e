# The CUDA toolkit: the machine's own (nvcc in PATH or CUDACXX), else the one that ./dev cuda takes from PyPI's wheels.
# flagscale_cuda(NAME SOURCES...) makes an OBJECT library of device code. The driver and cuBLASLt are opened at run time;
# CUDA's small runtime is linked in. Each thread has its own default stream: the old one cannot be recorded as a graph.
foreach(architecture ${FLAGSCALE_CUDA_ARCHITECTURES})
  if(architecture STREQUAL 90)
    message(FATAL_ERROR "FLAGSCALE_CUDA_ARCHITECTURES has 90: say 90a, with what only Hopper has (wgmma)")
  elseif(NOT architecture MATCHES "^[0-9]+[af]?$" OR architecture VERSION_LESS 80)
    message(FATAL_ERROR "FLAGSCALE_CUDA_ARCHITECTURES has ${architecture}: compute capabilities from 80 on, as in 80;90a;100;120")
  endif()
endforeach()

file(GLOB _wheel ${CMAKE_SOURCE_DIR}/.deps/cuda/lib/python3*/site-packages/nvidia/cu13)
find_program(FLAGSCALE_NVCC NAMES $ENV{CUDACXX} nvcc HINTS ${_wheel}/bin PATHS /usr/local/cuda/bin)
if(NOT FLAGSCALE_NVCC)
  message(FATAL_ERROR "FLAGSCALE_CUDA needs nvcc: run ./dev cuda, which brings one")
endif()
get_filename_component(FLAGSCALE_CUDA_ROOT ${FLAGSCALE_NVCC}/../.. REALPATH)
find_library(FLAGSCALE_CUDART cudart_static HINTS ${FLAGSCALE_CUDA_ROOT}/lib ${FLAGSCALE_CUDA_ROOT}/lib64 REQUIRED NO_DEFAULT_PATH)
find_path(FLAGSCALE_CUBLAS_INCLUDE cublasLt.h HINTS ${FLAGSCALE_CUDA_ROOT}/include ${_wheel}/include REQUIRED)

set(_launcher)
if(FLAGSCALE_CCACHE)
  set(_launcher ${FLAGSCALE_CCACHE})
endif()
set(_architectures)
foreach(architecture ${FLAGSCALE_CUDA_ARCHITECTURES})
  list(APPEND _architectures -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()

# 20012: defaulted functions with __device__. 177: what is not used, for GPUs before and after Hopper the parts of its kernels.
set(_unheard -diag-suppress=20012)
if(NOT FLAGSCALE_CUDA_ARCHITECTURES STREQUAL "90a")
  list(APPEND _unheard -diag-suppress=177)
endif()
# As for the other sources (toolchain.cmake): of the host's compiler, of nvcc and of ptxas.
set(_warnings)
if(FLAGSCALE_WERROR)
  set(_warnings -Werror=all-warnings -Xcompiler=-Werror)
endif()

# nvcc by hand rather than CMake's language CUDA: its check of the compiler wants a toolkit laid out as NVIDIA's installer does.
function(flagscale_cuda name)
  set(objects)
  foreach(source ${ARGN})
    file(RELATIVE_PATH path ${CMAKE_CURRENT_SOURCE_DIR} ${source})
    set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda/${path}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${_launcher} ${FLAGSCALE_NVCC} -ccbin ${CMAKE_CXX_COMPILER} -std=c++20 -O3 ${_architectures} --expt-relaxed-constexpr
              --fmad=true --default-stream per-thread -Xcompiler=-fPIE,-Wall,-Wextra ${_warnings} ${_unheard} -I${CMAKE_SOURCE_DIR}/src -isystem ${FLAGSCALE_CUBLAS_INCLUDE}
              -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d VERBATIM COMMENT "Compiling for the GPU: ${path}")
    list(APPEND objects ${object})
  endforeach()
  add_library(${name} INTERFACE)
  target_sources(${name} INTERFACE ${objects})
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_link_libraries(${name} INTERFACE ${FLAGSCALE_CUDART} dl rt)
endfunction()
