#include "kernel/kernel.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace flagscale {

namespace {
std::vector<const KernelSlotBase*>& slots() {
  static std::vector<const KernelSlotBase*> all;
  return all;
}
}  // namespace

void KernelSlotBase::fill(DeviceKind device, Isa isa, Erased kernel, Erased workspace) {
  auto& slot = kernels_[static_cast<int>(device)][static_cast<int>(isa)];
  FLAGSCALE_CHECK(slot == nullptr);  // two files claim the same kernel
  slot = kernel;
  workspaces_[static_cast<int>(device)][static_cast<int>(isa)] = workspace;
  if (std::find(slots().begin(), slots().end(), this) == slots().end()) slots().push_back(this);
}

int KernelSlotBase::best(DeviceKind device, Isa isa) const {
  for (int i = static_cast<int>(isa); i >= 0; --i)
    if (kernels_[static_cast<int>(device)][i]) return i;
  return -1;
}

void missing_kernel(const char* op, DeviceKind device, Isa isa) {
  if (device == DeviceKind::kCuda)
    fail(ErrorKind::kUnsupported, "[{}] has no kernel for cuda yet: --device cpu runs it", op);
  fail(ErrorKind::kUnsupported, "[{}] has no kernel for {} ({})", op, name(device), name(isa));
}

std::vector<const KernelSlotBase*> coverage() {
  auto result = slots();
  std::sort(result.begin(), result.end(),
            [](auto* a, auto* b) { return std::strcmp(a->name(), b->name()) < 0; });
  return result;
}

}  // namespace flagscale
