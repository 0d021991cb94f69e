#pragma once
// Where memory lives and kernels run. The null device has shapes and costs but no memory: a plan is traced on
// it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace flagscale {

enum class DeviceKind : uint8_t { kCpu, kNull, kCuda };
constexpr int kNumDeviceKinds = 3;

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int8_t index = 0;
  bool operator==(const Device&) const = default;
};

const char* name(DeviceKind kind);

// Hands out memory of one device. `allocated` and `peak` count bytes exactly as asked for; a plan's peak is
// compared with them to the byte. Thread-compatible: one owner.
class Allocator {
 public:
  virtual ~Allocator() = default;

  // Zeroed memory, aligned to kAlignment, freed with the last owner. Throws Error{kResource} when there is
  // none.
  std::shared_ptr<void> allocate(size_t bytes);

  size_t allocated() const { return *allocated_; }
  size_t peak() const { return peak_; }

  static constexpr size_t kAlignment = 64;

 protected:
  virtual void* map(size_t bytes) = 0;
  virtual void (*unmapper() const)(void* data, size_t bytes) = 0;

 private:
  std::shared_ptr<size_t> allocated_ =
      std::make_shared<size_t>(0);  // shared with the deleters, which may outlive us
  size_t peak_ = 0;
};

std::unique_ptr<Allocator> make_cpu_allocator();
std::unique_ptr<Allocator> make_allocator(DeviceKind device);
// Memory that both the host and the device's kernels address.
std::unique_ptr<Allocator> make_shared_allocator(DeviceKind device);

// Bytes of main memory that this process may still take: the least of MemAvailable and of what is left below
// the limit of its cgroup and of each cgroup around that. File pages count as free: the kernel gives them up
// before it kills. `root` stands before /proc and /sys.
size_t available_memory(const std::string& root = "");
// The same of a device's own memory.
size_t available_memory(DeviceKind device);

// What --device says: "cpu", "cuda", or "auto", a GPU where there is one and this program has its kernels.
// Throws Error{kUnsupported} saying why cuda cannot be had.
DeviceKind choose_device(const std::string& text);

}  // namespace flagscale
