#include "train/host_mirrors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace flagscale::train {

namespace {

Tensor part_in_bytes(const Tensor& tensor, size_t at, size_t size) {
  return {tensor.storage(), tensor.offset() + at, DType::kU8, {static_cast<int64_t>(size)}};
}

}  // namespace

void HostMirrors::add(const Tensor& device) {
  mirrors_.emplace(device.storage().get(),
                   Mirror{device, make_tensor(*memory_, device.shape(), device.dtype())});
}

const Tensor& HostMirrors::of(const Tensor& device) const { return mirrors_.at(device.storage().get()).host; }

Tensor HostMirrors::behind(std::span<const std::byte> bytes) const {
  for (const auto& [storage, mirror] : mirrors_) {
    const auto* const begin = static_cast<const std::byte*>(mirror.host.raw());
    if (bytes.empty() || bytes.data() < begin || bytes.data() >= begin + mirror.host.bytes()) continue;
    return part_in_bytes(mirror.device, static_cast<size_t>(bytes.data() - begin), bytes.size());
  }
  return {};
}

void HostMirrors::fetch(std::span<std::byte> bytes) const {
  if (const Tensor device = behind(bytes); device.defined()) copy_to_host(device, bytes.data());
}

void HostMirrors::put(std::span<std::byte> bytes) const {
  const Tensor device = behind(bytes);
  if (!device.defined()) return;
  copy_from_host(bytes.data(), device);
  drop(bytes);
}

// Whole pages of them: others' bytes may lie beside.
void HostMirrors::drop(std::span<std::byte> bytes) const {
  if (!behind(bytes).defined()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t first = (address + page - 1) / page * page, end = (address + bytes.size()) / page * page;
  if (first < end) madvise(bytes.data() + (first - address), end - first, MADV_DONTNEED);
}

MirrorReader HostMirrors::reader(std::span<const std::byte> bytes) const {
  const Tensor device = behind(bytes);
  if (!device.defined()) return {};
  return [device](size_t at, std::span<std::byte> to) {
    copy_to_host(part_in_bytes(device, at, to.size()), to.data());
  };
}

}  // namespace flagscale::train
