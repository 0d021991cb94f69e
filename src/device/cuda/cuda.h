#pragma once
// NVIDIA GPUs through the driver's own library (libcuda.so.1), opened when first asked for: one program runs
// where there is a GPU and where there is none. Nothing here needs the CUDA toolkit.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"

namespace flagscale::cuda {

// What a message about a GPU that fails ends with.
constexpr const char* kAskForXid = "`dmesg | grep -i xid` says whether the GPU itself failed";
// The same of one that has no memory left.
constexpr const char* kAskForOthers =
    "`nvidia-smi` shows whether another process has taken memory since this one was planned";

// What plans leave free: the driver's part of kernels as they are first met, and cuBLASLt's.
constexpr size_t kReserve = size_t{512} << 20;

// What the driver shows.
struct Found {
  std::vector<std::string> gpus;  // "NVIDIA H200"
  std::string reason;             // why no GPU can be used; empty where there is one
  bool absent = false;            // there is none, or no driver, which is nobody's fault
};
const Found& found();

// True in a program built with the CUDA kernels (./dev cuda).
bool built();

// Throws Error{kUnsupported} that says why and what to do, unless this program can run on a GPU.
void require();

// A process has one GPU: the first, or this one, said before anything is taken of it. Throws as require(),
// and where there are not that many or this one needs other kernels.
void use(int index);
// The GPU's own number, the same in every process: "6f1c…"
std::string identity();

// Whether its tensor cores multiply numbers of fp8 as op/fp8_linear does: compute capability 9.0, Hopper.
bool multiplies_fp8();

// Bytes that this process may still take of its GPU, and all that it has.
size_t free_memory();
size_t total_memory();
// ", 63.1 GiB are other processes' (`nvidia-smi` shows whose)" of what is used before this one takes any; ""
// where that is no more than contexts.
std::string of_others(size_t used);

// The GPU's own memory, which the host cannot address. Throws Error{kResource} when there is none.
std::unique_ptr<Allocator> make_allocator();
// Pinned memory of the host, which a GPU reads and writes over the bus: for inputs of a step and single
// numbers.
std::unique_ptr<Allocator> make_shared_allocator();

// Between any two kinds of memory, after what was launched before.
void copy(void* to, const void* from, size_t bytes);

// The same behind what this thread launched, without waiting for it. The host's side is pinned memory, which
// must not change before synchronize() or a Mark's wait().
void copy_later(void* to, const void* from, size_t bytes);

// What a thread launches, recorded once, then launched as a whole: the GPU goes from kernel to kernel without
// the host.
class Graph {
 public:
  // Nothing of `launches` runs; pointers and sizes are kept as they are now. Throws what it throws.
  explicit Graph(const std::function<void()>& launches);
  ~Graph();
  Graph(const Graph&) = delete;
  void launch() const;

 private:
  struct GraphRunObject* run_ = nullptr;
};

// Waits for what was launched. Throws Error{kDevice} with the driver's words for a kernel that failed or a
// GPU that was lost.
void synchronize();

}  // namespace flagscale::cuda
