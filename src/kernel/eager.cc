#include "kernel/eager.h"

#include <cstring>

#include "device/cuda/cuda.h"

namespace flagscale {

Tensor EagerRecorder::empty(const Shape& shape, DType dtype, const int64_t* live) {
  const Tensor tensor = make_tensor(allocator_, shape, dtype);
  std::memset(tensor.raw(), 0xff, tensor.bytes());  // NaN: what a kernel forgets to write shows
  return tensor.with_live(live);
}

void EagerRecorder::launch(std::unique_ptr<Launch> launch) {
  const DeviceKind device = device_of(isa_);
  launch->resolve(device, isa_);
  launch->bind();
  const size_t bytes = launch->workspace(device, isa_, team_.size());
  const auto memory = bytes ? allocator_.allocate(bytes) : nullptr;
  KernelContext context{{device, 0}, isa_, team_, {static_cast<std::byte*>(memory.get()), bytes}};
  launch->run(context);
  if (device == DeviceKind::kCuda) cuda::synchronize();
}

}  // namespace flagscale
