#include "device/lanes.h"

#include <cstring>

#include "device/cuda/lanes.h"

namespace flagscale {

namespace {

class CpuLanes final : public Lanes {
 public:
  void copy(Lane, void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void mark(Lane, size_t) override {}
  void wait(Lane, size_t) override {}
};

}  // namespace

std::unique_ptr<Lanes> make_lanes(DeviceKind device, size_t marks) {
  if (device == DeviceKind::kCuda) return cuda::make_lanes(marks);
  return std::make_unique<CpuLanes>();
}

}  // namespace flagscale
