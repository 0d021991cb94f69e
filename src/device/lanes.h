#pragma once
// Copies beside a device's kernels. A lane does what it is asked in order, and lanes run side by side but for
// the marks of one that another waits for.

#include <memory>

#include "device/device.h"

namespace flagscale {

enum class Lane : uint8_t { kKernels, kIn, kOut };  // what this thread launches; copies to the device; back

class Lanes {
 public:
  virtual ~Lanes() = default;
  // Pinned memory on the host's side.
  virtual void copy(Lane lane, void* to, const void* from, size_t bytes) = 0;
  // The mark is reached when the lane has done what it was asked so far; setting it again moves it.
  virtual void mark(Lane lane, size_t mark) = 0;
  // What the lane is asked from now on is done after the mark as it is now; one never set holds nothing up.
  virtual void wait(Lane lane, size_t mark) = 0;
};

// With marks [0, marks). Where the device is the CPU everything is done when it is asked.
std::unique_ptr<Lanes> make_lanes(DeviceKind device, size_t marks);

}  // namespace flagscale
