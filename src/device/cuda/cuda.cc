#include "device/cuda/cuda.h"

#include <cstring>

#include "base/error.h"
#include "device/cuda/driver.h"

namespace flagscale::cuda {

namespace {

constexpr unsigned kPortableAndMapped = 1 | 2;  // CU_MEMHOSTALLOC_PORTABLE, _DEVICEMAP

const Driver& driver() {
  std::string reason;
  const Driver* opened = open_driver(reason);
  if (!opened) fail(ErrorKind::kUnsupported, "no GPU can be used: {}", reason);
  return *opened;
}

void check(Status status, const char* what) {
  if (status == 0) return;
  fail(ErrorKind::kResource, "[cuda] {}: {}", what, describe(driver(), status));
}

Found look() {
  Found found;
  const Driver* d = open_driver(found.reason);
  if (!d) return found;
  int count = 0;
  if (const Status status = d->device_count(&count)) {
    found.reason = "the driver shows no GPU: " + describe(*d, status);
    return found;
  }
  for (int i = 0; i < count; ++i) {
    DeviceHandle handle = 0;
    char name[128] = {};
    if (d->device_get(&handle, i) || d->device_name(name, sizeof name - 1, handle)) continue;
    found.gpus.emplace_back(name);
  }
  if (found.gpus.empty()) found.reason = "the driver shows no GPU";
  return found;
}

// Makes the GPU's context current on the calling thread: the one that the kernels' launches use too.
DeviceHandle enter(int index) {
  DeviceHandle handle = 0;
  ContextObject* context = nullptr;
  check(driver().device_get(&handle, index), "open the GPU");
  check(driver().retain_context(&context, handle), "open the GPU");
  check(driver().set_context(context), "open the GPU");
  return handle;
}

class DeviceAllocator final : public Allocator {
 public:
  explicit DeviceAllocator(int index) { enter(index); }

 protected:
  void* map(size_t bytes) override {
    Pointer pointer = 0;
    const size_t size = bytes ? bytes : 1;
    if (const Status status = driver().allocate(&pointer, size))
      fail(ErrorKind::kResource, "the GPU has {} bytes free, {} are needed ({})", free_memory(), size,
           describe(driver(), status));
    check(driver().fill(pointer, 0, size), "clear memory");
    return reinterpret_cast<void*>(pointer);  // NOLINT(performance-no-int-to-ptr): CUdeviceptr is an integer
  }
  void (*unmapper() const)(void*, size_t) override {
    return [](void* data, size_t) { driver().free(reinterpret_cast<Pointer>(data)); };
  }
};

class SharedAllocator final : public Allocator {
 public:
  explicit SharedAllocator(int index) { enter(index); }

 protected:
  void* map(size_t bytes) override {
    void* data = nullptr;
    check(driver().allocate_host(&data, bytes ? bytes : 1, kPortableAndMapped), "pin memory of the host");
    std::memset(data, 0, bytes);
    return data;
  }
  void (*unmapper() const)(void*, size_t) override {
    return [](void* data, size_t) { driver().free_host(data); };
  }
};

}  // namespace

const Found& found() {
  static const Found result = look();
  return result;
}

bool built() {
#ifdef FLAGSCALE_CUDA
  return true;
#else
  return false;
#endif
}

void require(int index) {
  if (!found().reason.empty())
    fail(ErrorKind::kUnsupported, "device cuda: {}; leave --device away to use the CPU", found().reason);
  if (!built())
    fail(ErrorKind::kUnsupported,
         "device cuda: a GPU is here ({}), but this program was built without its kernels: run ./dev cuda",
         found().gpus[0]);
  if (index >= static_cast<int>(found().gpus.size()))
    fail(ErrorKind::kUnsupported, "device cuda: GPU {} is asked for, there are {}", index,
         found().gpus.size());
}

size_t free_memory(int index) {
  enter(index);
  size_t free = 0, total = 0;
  check(driver().memory_info(&free, &total), "ask for free memory");
  return free;
}

std::unique_ptr<Allocator> make_allocator(int index) {
  require(index);
  return std::make_unique<DeviceAllocator>(index);
}

std::unique_ptr<Allocator> make_shared_allocator(int index) {
  require(index);
  return std::make_unique<SharedAllocator>(index);
}

void copy(void* to, const void* from, size_t bytes) {
  check(driver().copy(reinterpret_cast<Pointer>(to), reinterpret_cast<Pointer>(from), bytes), "copy memory");
}

void synchronize() { check(driver().synchronize(), "a kernel failed"); }

}  // namespace flagscale::cuda
