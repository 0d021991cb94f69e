#include "device/cuda/cuda.h"

#include <fmt/format.h>

#include <atomic>
#include <cctype>
#include <charconv>
#include <mutex>
#include <sstream>

#include "base/error.h"
#include "base/gib.h"
#include "device/cuda/driver.h"

namespace flagscale::cuda {

namespace {

constexpr unsigned kPortableAndMapped = 1 | 2;  // CU_MEMHOSTALLOC_PORTABLE, _DEVICEMAP
constexpr int kThisThread = 1;                  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

int attribute(const Driver& d, int which, DeviceHandle gpu) {
  int value = 0;
  check(d.device_attribute(&value, which, gpu), "ask what the GPU can do");
  return value;
}

struct Capability {
  int major = 0, minor = 0;
};
Capability capability(const Driver& d, DeviceHandle gpu) {
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
  return {attribute(d, kMajor, gpu), attribute(d, kMinor, gpu)};
}

#ifdef FLAGSCALE_CUDA_ARCHITECTURES
// Code for 80 runs on 8.0 and what is later within 8, code for 90a on 9.0 alone.
bool runs(const std::string& code, Capability on) {
  int number = 0;
  std::from_chars(code.data(), code.data() + code.size(), number);
  const bool alone = std::isalpha(static_cast<unsigned char>(code.back())) != 0;
  return number / 10 == on.major && (alone ? number % 10 == on.minor : number % 10 <= on.minor);
}
#endif

// Why this program's kernels do not run there; "" where they do.
std::string lacks_code(const Driver& d, int index) {
#ifdef FLAGSCALE_CUDA_ARCHITECTURES
  DeviceHandle gpu = 0;
  check(d.device_get(&gpu, index), "open the GPU");
  const Capability on = capability(d, gpu);
  std::istringstream all(FLAGSCALE_CUDA_ARCHITECTURES);
  for (std::string code; all >> code;)
    if (runs(code, on)) return {};
  return fmt::format(
      "GPU {} has compute capability {}.{}, this program has kernels for {}: build it with ./dev cuda "
      "--architectures {}{}{}",
      index, on.major, on.minor, FLAGSCALE_CUDA_ARCHITECTURES, on.major, on.minor, on.major == 9 ? "a" : "");
#else
  (void)d, (void)index;
  return {};
#endif
}

Found look() {
  const OpenedDriver& opened = open_driver();
  Found found{{}, opened.reason, opened.absent};
  if (!found.reason.empty()) return found;
  const Driver& d = opened.driver;
  int count = 0;
  const Status status = d.device_count(&count);
  for (int i = 0; i < count; ++i) {
    DeviceHandle handle = 0;
    char name[128] = {};
    if (d.device_get(&handle, i) || d.device_name(name, sizeof name - 1, handle)) continue;
    found.gpus.emplace_back(name);
  }
  found.absent = found.gpus.empty();
  if (found.absent)
    found.reason = "the driver shows no GPU" + (status ? ": " + describe(d, status) : "");
  else
    found.reason = lacks_code(d, 0);
  return found;
}

std::atomic<int> used = 0;

// Makes the GPU's context current on the calling thread: the one that the kernels' launches use too.
DeviceHandle enter() {
  DeviceHandle handle = 0;
  ContextObject* context = nullptr;
  check(driver().device_get(&handle, used), "open the GPU");
  check(driver().retain_context(&context, handle), "open the GPU");
  check(driver().set_context(context), "open the GPU");
  return handle;
}

class DeviceAllocator final : public Allocator {
 public:
  DeviceAllocator() { enter(); }

 protected:
  void* map(size_t bytes) override {
    Pointer pointer = 0;
    const size_t size = bytes ? bytes : 1;
    const Status status = driver().allocate(&pointer, size);
    if (status == kNoMemory)
      fail(ErrorKind::kResource, "the GPU has {} of {} free, {} more are needed in one piece; {}",
           gib(free_memory()), gib(total_memory()), gib(size), kAskForOthers);
    check(status, "take memory");
    check(driver().fill(pointer, 0, size), "clear memory");
    return reinterpret_cast<void*>(pointer);  // NOLINT(performance-no-int-to-ptr): CUdeviceptr is an integer
  }
  void (*unmapper() const)(void*, size_t) override {
    return [](void* data, size_t) { driver().free(reinterpret_cast<Pointer>(data)); };
  }
};

class SharedAllocator final : public Allocator {
 public:
  SharedAllocator() { enter(); }

 protected:
  void* map(size_t bytes) override {
    void* data = nullptr;
    const size_t size = bytes ? bytes : 1;
    const Status status = driver().allocate_host(&data, size, kPortableAndMapped);
    if (status == kNoMemory)
      fail(ErrorKind::kResource, "{} of main memory cannot be pinned for the GPU, {} are free", gib(size),
           gib(available_memory()));
    check(status, "pin main memory");
    check(driver().fill(reinterpret_cast<Pointer>(data), 0, size), "clear memory");  // faster than one core
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

void require() {
  if (!found().reason.empty())
    fail(ErrorKind::kUnsupported, "device cuda: {}; leave --device away to use the CPU", found().reason);
  if (!built())
    fail(ErrorKind::kUnsupported,
         "device cuda: a GPU is here ({}), but this program was built without its kernels: run ./dev cuda",
         found().gpus[0]);
}

void use(int index) {
  require();
  if (index < 0 || index >= static_cast<int>(found().gpus.size()))
    fail(ErrorKind::kUnsupported, "device cuda: GPU {} is asked for, there are {}", index,
         found().gpus.size());
  if (const std::string reason = lacks_code(driver(), index); !reason.empty())
    fail(ErrorKind::kUnsupported, "device cuda: {}", reason);
  used = index;
}

std::string identity() {
  unsigned char bytes[16] = {};
  check(driver().device_identity(&bytes, enter()), "ask who the GPU is");
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

bool multiplies_fp8() { return capability(driver(), enter()).major == 9; }

namespace {

struct Memory {
  size_t free = 0, total = 0;
};
Memory memory() {
  enter();
  Memory result;
  check(driver().memory_info(&result.free, &result.total), "ask for free memory");
  return result;
}

// What a thread records must not meet another's copy.
std::recursive_mutex recording;

}  // namespace

// A server's engine runs on another thread than that which made it.
void enter_here() {
  thread_local const DeviceHandle entered = enter();
  (void)entered;
}

size_t free_memory() { return memory().free; }
size_t total_memory() { return memory().total; }

std::string of_others(size_t used) {
  if (used >> 30 == 0) return {};
  return fmt::format(", {} are other processes' (`nvidia-smi` shows whose)", gib(used));
}

std::unique_ptr<Allocator> make_allocator() {
  require();
  return std::make_unique<DeviceAllocator>();
}

std::unique_ptr<Allocator> make_shared_allocator() {
  require();
  return std::make_unique<SharedAllocator>();
}

void copy(void* to, const void* from, size_t bytes) {
  enter_here();
  const std::lock_guard lock(recording);
  check(driver().copy(reinterpret_cast<Pointer>(to), reinterpret_cast<Pointer>(from), bytes), "copy memory");
}

void copy_later(void* to, const void* from, size_t bytes) {
  enter_here();
  check(driver().copy_later(reinterpret_cast<Pointer>(to), reinterpret_cast<Pointer>(from), bytes,
                            thread_stream()),
        "copy memory");
}

Graph::Graph(const std::function<void()>& launches) {
  enter_here();
  const std::lock_guard lock(recording);
  check(driver().record(thread_stream(), kThisThread), "record a graph");
  GraphObject* graph = nullptr;
  try {
    launches();
  } catch (...) {
    driver().end_record(thread_stream(), &graph);
    if (graph) driver().free_graph(graph);
    throw;
  }
  check(driver().end_record(thread_stream(), &graph), "record a graph");
  const Status status = driver().make_runnable(&run_, graph, 0);
  driver().free_graph(graph);
  check(status, "make a graph");
}

Graph::~Graph() { driver().free_runnable(run_); }

void Graph::launch() const { check(driver().run_graph(run_, thread_stream()), "launch a graph"); }

void synchronize() { check(driver().synchronize(), "a kernel failed"); }

}  // namespace flagscale::cuda
