#include "device/cuda/cuda.h"

#include <cstring>

#include "base/error.h"
#include "device/cuda/driver.h"

namespace flagscale::cuda {

namespace {

constexpr unsigned kPortableAndMapped = 1 | 2;  // CU_MEMHOSTALLOC_PORTABLE, _DEVICEMAP
constexpr int kThisThread = 1;                  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

// Where a thread's kernels go (CU_STREAM_PER_THREAD): kernels are compiled for it, since the old default
// stream cannot be recorded.
StreamObject* stream() {
  return reinterpret_cast<StreamObject*>(
      uintptr_t{2});  // NOLINT(performance-no-int-to-ptr): as cuda.h has it
}

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

namespace {

struct Memory {
  size_t free = 0, total = 0;
};
Memory memory_of(int index) {
  enter(index);
  Memory memory;
  check(driver().memory_info(&memory.free, &memory.total), "ask for free memory");
  return memory;
}

// Once a thread: a server's engine runs on another one than that which made it.
void enter_here() {
  thread_local const DeviceHandle entered = enter(0);
  (void)entered;
}

}  // namespace

size_t free_memory(int index) { return memory_of(index).free; }
size_t total_memory(int index) { return memory_of(index).total; }

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

void copy_later(void* to, const void* from, size_t bytes) {
  enter_here();
  check(driver().copy_later(reinterpret_cast<Pointer>(to), reinterpret_cast<Pointer>(from), bytes, stream()),
        "copy memory");
}

Graph::Graph(const std::function<void()>& launches) {
  enter_here();
  check(driver().record(stream(), kThisThread), "record a graph");
  GraphObject* graph = nullptr;
  try {
    launches();
  } catch (...) {
    driver().end_record(stream(), &graph);
    if (graph) driver().free_graph(graph);
    throw;
  }
  check(driver().end_record(stream(), &graph), "record a graph");
  const Status status = driver().make_runnable(&run_, graph, 0);
  driver().free_graph(graph);
  check(status, "make a graph");
}

Graph::~Graph() { driver().free_runnable(run_); }

void Graph::launch() const { check(driver().run_graph(run_, stream()), "launch a graph"); }

void synchronize() { check(driver().synchronize(), "a kernel failed"); }

}  // namespace flagscale::cuda
