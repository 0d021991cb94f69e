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
struct EventObject;

constexpr Status kNoMemory = 2;    // CUDA_ERROR_OUT_OF_MEMORY
constexpr Status kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
constexpr Status kNotReady = 600;  // CUDA_ERROR_NOT_READY: what was asked for still runs
constexpr unsigned kAlone = 1;     // CU_STREAM_NON_BLOCKING: the old default stream does not wait for it
constexpr unsigned kUntimed = 2;   // CU_EVENT_DISABLE_TIMING
constexpr unsigned kExternal = 1;  // CU_EVENT_RECORD_EXTERNAL: a recorded graph sets it when it runs

// CUipcMemHandle: another process opens this one's memory with it.
struct IpcHandle {
  char reserved[64];
};

// CUstreamBatchMemOpParams of a wait for a word of memory, or of writing it.
struct MemoryOperation {
  int operation;
  Pointer address;
  unsigned long long value;
  unsigned flags;
  Pointer alias = 0;
  unsigned long long unused = 0;
};
static_assert(sizeof(MemoryOperation) == 48);

struct Driver {
  Status (*version)(int*);
  Status (*init)(unsigned);
  Status (*error_name)(Status, const char**);
  Status (*error_string)(Status, const char**);
  Status (*device_count)(int*);
  Status (*device_get)(DeviceHandle*, int);
  Status (*device_name)(char*, int, DeviceHandle);
  Status (*device_attribute)(int*, int which, DeviceHandle);
  Status (*device_identity)(unsigned char (*)[16], DeviceHandle);
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
  Status (*priorities)(int* least, int* greatest);
  Status (*make_stream)(StreamObject**, unsigned flags, int priority);
  Status (*free_stream)(StreamObject*);
  Status (*ask_stream)(StreamObject*);
  Status (*wait_in_stream)(StreamObject*, EventObject*, unsigned flags);
  Status (*make_event)(EventObject**, unsigned flags);
  Status (*free_event)(EventObject*);
  Status (*record_event)(EventObject*, StreamObject*);
  Status (*wait_for_event)(EventObject*);
  Status (*record_event_in_graph)(EventObject*, StreamObject*, unsigned flags);
  Status (*elapsed)(float* milliseconds, EventObject* from, EventObject* to);
  Status (*range_of)(Pointer* base, size_t* size, Pointer);
  Status (*export_memory)(IpcHandle*, Pointer base);
  Status (*open_memory)(Pointer*, IpcHandle, unsigned flags);
  Status (*close_memory)(Pointer);
  Status (*operate)(StreamObject*, unsigned count, MemoryOperation*, unsigned flags);
};

struct OpenedDriver {
  Driver driver;
  std::string reason;   // why it is of no use; empty where it is
  bool absent = false;  // there is none, or it has no GPU
};
const OpenedDriver& open_driver();

// Why a driver of this CUDA (13000) does not run a program built with that major version of it; "" where it
// does. Kernels run with every driver of their CUDA's major version from the oldest on that builds them.
std::string too_old(int version, int major);
// The same of one without a function.
std::string lacks(const char* function, int major);

// Throws Error{kUnsupported} where there is none.
const Driver& driver();

// "CUDA_ERROR_OUT_OF_MEMORY: out of memory"
std::string describe(const Driver& driver, Status status);

// Throws Error{kDevice}: "[cuda] open the GPU: CUDA_ERROR_…", Error{kResource} where it is memory that lacks.
void check(Status status, const char* what);

// Where a thread's kernels go (CU_STREAM_PER_THREAD): kernels are compiled for it, since the old default
// stream cannot be recorded.
StreamObject* thread_stream();

// Makes the process's GPU current on the calling thread, once a thread.
void enter_here();

}  // namespace flagscale::cuda
