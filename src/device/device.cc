#include "device/device.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "device/cuda/cuda.h"

namespace flagscale {

const char* name(DeviceKind kind) {
  constexpr const char* kNames[] = {"cpu", "null", "cuda"};
  return kNames[static_cast<int>(kind)];
}

std::unique_ptr<Allocator> make_allocator(DeviceKind device) {
  return device == DeviceKind::kCuda ? cuda::make_allocator() : make_cpu_allocator();
}

std::unique_ptr<Allocator> make_shared_allocator(DeviceKind device) {
  return device == DeviceKind::kCuda ? cuda::make_shared_allocator() : make_cpu_allocator();
}

size_t available_memory(DeviceKind device) {
  return device == DeviceKind::kCuda ? cuda::free_memory() : available_memory();
}

DeviceKind choose_device(const std::string& text) {
  if (text == "cpu") return DeviceKind::kCpu;
  if (text == "auto") {
    const cuda::Found& found = cuda::found();
    if (cuda::built() && !found.reason.empty() && !found.absent) warn("the CPU computes: {}", found.reason);
    if (!cuda::built() && found.reason.empty())
      info("a GPU is here ({}), this program has no kernels for it: run ./dev cuda", found.gpus[0]);
    return found.reason.empty() && cuda::built() ? DeviceKind::kCuda : DeviceKind::kCpu;
  }
  if (text != "cuda") fail(ErrorKind::kInvalidArgument, "device is '{}'; it may be auto, cpu or cuda", text);
  cuda::require();
  return DeviceKind::kCuda;
}

std::shared_ptr<void> Allocator::allocate(size_t bytes) {
  void* data = map(bytes);
  *allocated_ += bytes;
  peak_ = std::max(peak_, *allocated_);
  return {data, [bytes, unmap = unmapper(), counter = allocated_](void* p) {
            unmap(p, bytes);
            *counter -= bytes;
          }};
}

}  // namespace flagscale
