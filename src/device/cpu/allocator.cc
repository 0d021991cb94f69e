// Memory of the CPU: anonymous mappings, so that untouched pages cost nothing and freed ones go back at once.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "base/error.h"
#include "device/device.h"

namespace flagscale {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + 4095) & ~size_t{4095}; }

class CpuAllocator final : public Allocator {
 protected:
  void* map(size_t bytes) override {
    void* data = mmap(nullptr, rounded(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) fail(ErrorKind::kResource, "cannot allocate {} bytes of memory", bytes);
    if (bytes >= 2 * kHugePage) madvise(data, rounded(bytes), MADV_HUGEPAGE);
    return data;
  }
  void (*unmapper() const)(void*, size_t) override {
    return [](void* data, size_t bytes) { munmap(data, rounded(bytes)); };
  }
};

// A number in a one-line file, or `otherwise` where it is absent or "max".
size_t read_number(const std::string& path, size_t otherwise) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text) || text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return otherwise;
  return std::stoull(text);
}

}  // namespace

std::unique_ptr<Allocator> make_cpu_allocator() { return std::make_unique<CpuAllocator>(); }

size_t available_memory() {
  size_t available = SIZE_MAX;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (size_t kib = 0; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:") available = kib * 1024;
  for (const char* root : {"/sys/fs/cgroup/memory.", "/sys/fs/cgroup/memory/memory."}) {
    const std::string base(root);
    const bool v2 = base.back() == '.' && base.find("memory/") == std::string::npos;
    const size_t limit = read_number(base + (v2 ? "max" : "limit_in_bytes"), SIZE_MAX);
    const size_t used = read_number(base + (v2 ? "current" : "usage_in_bytes"), 0);
    if (limit != SIZE_MAX) available = std::min(available, limit > used ? limit - used : 0);
  }
  return available;
}

}  // namespace flagscale
