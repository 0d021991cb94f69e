#pragma once
// The functions of libcuda.so.1 that we call, by their stable names (cuda.h, CUDA driver API). Internal to
// device/cuda.

#include <cstddef>
#include <string>

namespace flagscale::cuda {

using Status = int;                  // CUresult
using DeviceHandle = int;            // CUdevice
using Pointer = unsigned long long;  // CUdeviceptr
struct ContextObject;
struct StreamObject;
struct GraphObject;
struct GraphRunObject;

struct Driver {
  Status (*init)(unsigned);
  Status (*error_name)(Status, const char**);
  Status (*error_string)(Status, const char**);
  Status (*device_count)(int*);
  Status (*device_get)(DeviceHandle*, int);
  Status (*device_name)(char*, int, DeviceHandle);
  Status (*retain_context)(ContextObject**, DeviceHandle);
  Status (*set_context)(ContextObject*);
  Status (*synchronize)();
  Status (*memory_info)(size_t* free, size_t* total);
  Status (*allocate)(Pointer*, size_t);
  Status (*free)(Pointer);
  Status (*allocate_host)(void**, size_t, unsigned);
  Status (*free_host)(void*);
  Status (*copy)(Pointer to, Pointer from, size_t);
  Status (*fill)(Pointer, unsigned char, size_t);
  Status (*copy_later)(Pointer to, Pointer from, size_t, StreamObject*);
  Status (*record)(StreamObject*, int mode);
  Status (*end_record)(StreamObject*, GraphObject**);
  Status (*make_runnable)(GraphRunObject**, GraphObject*, unsigned long long flags);
  Status (*run_graph)(GraphRunObject*, StreamObject*);
  Status (*free_runnable)(GraphRunObject*);
  Status (*free_graph)(GraphObject*);
};

// Null where there is no driver; `reason` then says why.
const Driver* open_driver(std::string& reason);

// "CUDA_ERROR_OUT_OF_MEMORY: out of memory"
std::string describe(const Driver& driver, Status status);

}  // namespace flagscale::cuda
