// Memory of the CPU: anonymous mappings, so that untouched pages cost nothing and freed ones go back at once.
#include <sys/mman.h>

#include <algorithm>

#include "base/error.h"
#include "device/device.h"

namespace flagscale {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + 4095) & ~size_t{4095}; }

class CpuAllocator final : public Allocator {
 protected:
  void* map(size_t bytes) override {
    void* data = mmap(nullptr, rounded(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) fail(ErrorKind::kResource, "cannot allocate {} bytes of memory", bytes);
    if (bytes >= 2 * kHugePage) madvise(data, rounded(bytes), MADV_HUGEPAGE);
    return data;
  }
  void (*unmapper() const)(void*, size_t) override {
    return [](void* data, size_t bytes) { munmap(data, rounded(bytes)); };
  }
};

}  // namespace

std::unique_ptr<Allocator> make_cpu_allocator() { return std::make_unique<CpuAllocator>(); }

}  // namespace flagscale
