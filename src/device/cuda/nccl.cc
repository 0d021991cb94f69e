#include "device/cuda/nccl.h"

#include <dlfcn.h>

#include <chrono>

#include "base/error.h"
#include "base/library_function.h"
#include "device/cuda/driver.h"

namespace flagscale::cuda {

namespace {

using NcclStatus = int;           // ncclResult_t
constexpr int kNcclFloat = 7;     // ncclFloat32
constexpr int kNcclSum = 0;       // ncclSum
constexpr unsigned kAlone = 1;    // CU_STREAM_NON_BLOCKING: the old default stream does not wait for it
constexpr unsigned kUntimed = 2;  // CU_EVENT_DISABLE_TIMING
constexpr std::chrono::milliseconds kLook{100};

struct Nccl {
  const char* (*words)(NcclStatus);
  NcclStatus (*make_id)(NcclId*);
  NcclStatus (*join)(NcclGroup**, int size, NcclId, int rank);
  NcclStatus (*sum)(const void* from, void* to, size_t count, int type, int operation, NcclGroup*,
                    StreamObject*);
  NcclStatus (*trouble)(NcclGroup*, NcclStatus*);
  NcclStatus (*leave)(NcclGroup*);
  NcclStatus (*abort)(NcclGroup*);
};

// Null, and why.
const Nccl* open_nccl(std::string& reason) {
  static Nccl nccl;
  static const std::string failure = []() -> std::string {
    void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return "NCCL (libnccl.so.2) is not found: install it, or put its folder into LD_LIBRARY_PATH";
    const auto find = [&](const char* name, auto& function) {
      return find_function(library, name, function);
    };
    const bool all = find("ncclGetErrorString", nccl.words) && find("ncclGetUniqueId", nccl.make_id) &&
                     find("ncclCommInitRank", nccl.join) && find("ncclAllReduce", nccl.sum) &&
                     find("ncclCommGetAsyncError", nccl.trouble) && find("ncclCommDestroy", nccl.leave) &&
                     find("ncclCommAbort", nccl.abort);
    return all ? "" : "NCCL (libnccl.so.2) is too old";
  }();
  reason = failure;
  return failure.empty() ? &nccl : nullptr;
}

const Nccl& nccl() {
  std::string reason;
  const Nccl* opened = open_nccl(reason);
  if (!opened) fail(ErrorKind::kUnsupported, "{}", reason);
  return *opened;
}

void check_nccl(NcclStatus status, const char* what) {
  if (status != 0) fail(ErrorKind::kResource, "[nccl] {}: {}", what, nccl().words(status));
}

}  // namespace

std::string nccl_missing() {
  std::string reason;
  open_nccl(reason);
  return reason;
}

NcclId make_nccl_id() {
  NcclId id{};
  check_nccl(nccl().make_id(&id), "begin");
  return id;
}

RankGpus::RankGpus(const NcclId& id, int rank, int size) {
  enter_here();
  int least = 0, greatest = 0;
  check(driver().priorities(&least, &greatest), "ask for priorities");
  check_nccl(nccl().join(&group_, size, id, rank), "join the ranks' GPUs");
  check(driver().make_stream(&stream_, kAlone, greatest), "make a stream");
  check(driver().make_event(&event_, kUntimed), "make an event");
}

RankGpus::~RankGpus() {
  if (group_) nccl().leave(group_);
  if (event_) driver().free_event(event_);
  if (stream_) driver().free_stream(stream_);
}

void RankGpus::sum(float* data, size_t count) {
  if (!group_) fail(ErrorKind::kResource, "[nccl] the ranks' GPUs are not joined any more");
  check(driver().record_event(event_, thread_stream()), "record an event");
  check(driver().wait_in_stream(stream_, event_, 0), "wait for an event");
  check_nccl(nccl().sum(data, data, count, kNcclFloat, kNcclSum, group_, stream_), "sum over the ranks");
}

void RankGpus::wait(const std::function<void()>& check_others) {
  check(driver().record_event(event_, stream_), "record an event");
  check(driver().wait_in_stream(thread_stream(), event_, 0), "wait for an event");
  auto looked = std::chrono::steady_clock::now();
  try {
    for (Status status = kNotReady; status == kNotReady;) {
      status = driver().ask_stream(thread_stream());
      if (status != kNotReady) check(status, "a kernel failed");
      const auto now = std::chrono::steady_clock::now();
      if (now - looked < kLook) continue;
      looked = now;
      check_others();
      NcclStatus trouble = 0;
      check_nccl(nccl().trouble(group_, &trouble), "ask how it goes");
      check_nccl(trouble, "sum over the ranks");
    }
  } catch (...) {
    give_up();
    throw;
  }
}

// Ends what runs: memory could not be freed under it.
void RankGpus::give_up() {
  if (group_) nccl().abort(group_);
  group_ = nullptr;
}

}  // namespace flagscale::cuda
