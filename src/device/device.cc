#include "device/device.h"

#include <algorithm>

namespace flagscale {

const char* name(DeviceKind kind) {
  constexpr const char* kNames[] = {"cpu", "null", "cuda"};
  return kNames[static_cast<int>(kind)];
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
