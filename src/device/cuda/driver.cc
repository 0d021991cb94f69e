#include "device/cuda/driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdint>

#include "base/error.h"
#include "base/library_function.h"
#include "device/cuda/cuda.h"

namespace flagscale::cuda {

namespace {

const char* first_missing(void* library, Driver& d) {
  const auto missing = [&](const char* name, auto*& function) {
    return !find_function(library, name, function);
  };
  if (missing("cuInit", d.init)) return "cuInit";
  if (missing("cuGetErrorName", d.error_name)) return "cuGetErrorName";
  if (missing("cuGetErrorString", d.error_string)) return "cuGetErrorString";
  if (missing("cuDeviceGetCount", d.device_count)) return "cuDeviceGetCount";
  if (missing("cuDeviceGet", d.device_get)) return "cuDeviceGet";
  if (missing("cuDeviceGetName", d.device_name)) return "cuDeviceGetName";
  if (missing("cuDeviceGetAttribute", d.device_attribute)) return "cuDeviceGetAttribute";
  if (missing("cuDeviceGetUuid_v2", d.device_identity)) return "cuDeviceGetUuid_v2";
  if (missing("cuDevicePrimaryCtxRetain", d.retain_context)) return "cuDevicePrimaryCtxRetain";
  if (missing("cuCtxSetCurrent", d.set_context)) return "cuCtxSetCurrent";
  if (missing("cuCtxSynchronize", d.synchronize)) return "cuCtxSynchronize";
  if (missing("cuMemGetInfo_v2", d.memory_info)) return "cuMemGetInfo_v2";
  if (missing("cuMemAlloc_v2", d.allocate)) return "cuMemAlloc_v2";
  if (missing("cuMemFree_v2", d.free)) return "cuMemFree_v2";
  if (missing("cuMemHostAlloc", d.allocate_host)) return "cuMemHostAlloc";
  if (missing("cuMemFreeHost", d.free_host)) return "cuMemFreeHost";
  if (missing("cuMemcpy", d.copy)) return "cuMemcpy";
  if (missing("cuMemsetD8_v2", d.fill)) return "cuMemsetD8_v2";
  if (missing("cuMemcpyAsync", d.copy_later)) return "cuMemcpyAsync";
  if (missing("cuStreamBeginCapture_v2", d.record)) return "cuStreamBeginCapture_v2";
  if (missing("cuStreamEndCapture", d.end_record)) return "cuStreamEndCapture";
  if (missing("cuGraphInstantiateWithFlags", d.make_runnable)) return "cuGraphInstantiateWithFlags";
  if (missing("cuGraphLaunch", d.run_graph)) return "cuGraphLaunch";
  if (missing("cuGraphExecDestroy", d.free_runnable)) return "cuGraphExecDestroy";
  if (missing("cuGraphDestroy", d.free_graph)) return "cuGraphDestroy";
  if (missing("cuCtxGetStreamPriorityRange", d.priorities)) return "cuCtxGetStreamPriorityRange";
  if (missing("cuStreamCreateWithPriority", d.make_stream)) return "cuStreamCreateWithPriority";
  if (missing("cuStreamDestroy_v2", d.free_stream)) return "cuStreamDestroy_v2";
  if (missing("cuStreamQuery", d.ask_stream)) return "cuStreamQuery";
  if (missing("cuStreamWaitEvent", d.wait_in_stream)) return "cuStreamWaitEvent";
  if (missing("cuEventCreate", d.make_event)) return "cuEventCreate";
  if (missing("cuEventDestroy_v2", d.free_event)) return "cuEventDestroy_v2";
  if (missing("cuEventRecord", d.record_event)) return "cuEventRecord";
  if (missing("cuEventSynchronize", d.wait_for_event)) return "cuEventSynchronize";
  if (missing("cuEventRecordWithFlags", d.record_event_in_graph)) return "cuEventRecordWithFlags";
  if (missing("cuEventElapsedTime", d.elapsed)) return "cuEventElapsedTime";
  if (missing("cuMemGetAddressRange_v2", d.range_of)) return "cuMemGetAddressRange_v2";
  if (missing("cuIpcGetMemHandle", d.export_memory)) return "cuIpcGetMemHandle";
  if (missing("cuIpcOpenMemHandle_v2", d.open_memory)) return "cuIpcOpenMemHandle_v2";
  if (missing("cuIpcCloseMemHandle", d.close_memory)) return "cuIpcCloseMemHandle";
  if (missing("cuStreamBatchMemOp_v2", d.operate)) return "cuStreamBatchMemOp_v2";
  return nullptr;
}

#ifdef FLAGSCALE_CUDA_VERSION
constexpr int kMajor = FLAGSCALE_CUDA_VERSION / 1000;
#else
constexpr int kMajor = 12;  // the oldest that ./dev cuda takes
#endif

int oldest(int major) { return major == 12 ? 12090 : 1000 * major; }

// "13.0: driver 580 or newer"
std::string needed(int major) {
  const char* driver = major == 12 ? ": driver 575 or newer" : major == 13 ? ": driver 580 or newer" : "";
  return fmt::format("{}.{}{}", oldest(major) / 1000, oldest(major) % 1000 / 10, driver);
}

OpenedDriver open_library() {
  OpenedDriver opened{};
  Driver& driver = opened.driver;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return {driver, "no NVIDIA driver is installed (libcuda.so.1 is not found)", true};
  int version = 0;
  if (find_function(library, "cuDriverGetVersion", driver.version)) driver.version(&version);
#ifdef FLAGSCALE_CUDA_VERSION  // without kernels none is needed
  opened.reason = too_old(version, kMajor);
#endif
  if (!opened.reason.empty()) return opened;
  if (const char* name = first_missing(library, driver)) {
    opened.reason = lacks(name, kMajor);
  } else if (const Status status = driver.init(0)) {
    opened.reason = "the NVIDIA driver does not start: " + describe(driver, status);
    opened.absent = status == kNoDevice;
  }
  return opened;
}

}  // namespace

std::string too_old(int version, int major) {
  if (version >= oldest(major)) return {};
  return fmt::format("the NVIDIA driver runs CUDA {}.{}, this program needs {}", version / 1000,
                     version % 1000 / 10, needed(major));
}

std::string lacks(const char* function, int major) {
  return fmt::format("the NVIDIA driver is too old: it lacks {}, this program needs that of CUDA {}",
                     function, needed(major));
}

const OpenedDriver& open_driver() {
  static const OpenedDriver opened = open_library();
  return opened;
}

const Driver& driver() {
  const OpenedDriver& opened = open_driver();
  if (!opened.reason.empty()) fail(ErrorKind::kUnsupported, "no GPU can be used: {}", opened.reason);
  return opened.driver;
}

void check(Status status, const char* what) {
  if (status == 0) return;
  if (status == kNoMemory)
    fail(ErrorKind::kResource,
         "[cuda] {}: {}; `nvidia-smi` shows who has the GPU's memory: end what else runs there, or leave "
         "more of "
         "it (a training's micro_batch_size, a server's gpu_memory_utilization)",
         what, describe(driver(), status));
  fail(ErrorKind::kDevice, "[cuda] {}: {}; {}", what, describe(driver(), status), kAskForXid);
}

StreamObject* thread_stream() {
  return reinterpret_cast<StreamObject*>(
      uintptr_t{2});  // NOLINT(performance-no-int-to-ptr): as cuda.h has it
}

std::string describe(const Driver& driver, Status status) {
  const char *name = nullptr, *text = nullptr;
  driver.error_name(status, &name);
  driver.error_string(status, &text);
  return std::string(name ? name : "unknown error") + (text ? std::string(": ") + text : "");
}

}  // namespace flagscale::cuda
