#include "device/cuda/nccl.h"

#include <dlfcn.h>

#include <chrono>
#include <climits>
#include <exception>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/library_function.h"
#include "device/cuda/driver.h"

namespace flagscale::cuda {

namespace {

using NcclStatus = int;              // ncclResult_t
constexpr NcclStatus kUnderWay = 7;  // ncclInProgress
constexpr int kNcclByte = 1;         // ncclUint8
constexpr int kNcclFloat = 7;        // ncclFloat32
constexpr int kNcclSum = 0;          // ncclSum
constexpr std::chrono::milliseconds kLook{100};

// ncclConfig_t as of 2.14, which later ones read. Calls do not block, so that ranks that join notice when
// another has ended.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef, version = 21400;
  int blocks = 0;
  int unused = INT_MIN;  // NCCL_CONFIG_UNDEF_INT
};

struct Nccl {
  const char* (*words)(NcclStatus);
  NcclStatus (*make_id)(NcclId*);
  NcclStatus (*join)(NcclGroup**, int size, NcclId, int rank, NcclConfig*);
  NcclStatus (*begin_together)();
  NcclStatus (*end_together)();
  NcclStatus (*spread)(const void* from, void* to, size_t count, int type, int root, NcclGroup*,
                       StreamObject*);
  NcclStatus (*sum_at)(const void* from, void* to, size_t count, int type, int operation, int root,
                       NcclGroup*, StreamObject*);
  NcclStatus (*sum)(const void* from, void* to, size_t count, int type, int operation, NcclGroup*,
                    StreamObject*);
  NcclStatus (*trouble)(NcclGroup*, NcclStatus*);
  NcclStatus (*finish)(NcclGroup*);
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
                     find("ncclCommInitRankConfig", nccl.join) && find("ncclAllReduce", nccl.sum) &&
                     find("ncclGroupStart", nccl.begin_together) && find("ncclGroupEnd", nccl.end_together) &&
                     find("ncclBroadcast", nccl.spread) && find("ncclReduce", nccl.sum_at) &&
                     find("ncclCommGetAsyncError", nccl.trouble) && find("ncclCommFinalize", nccl.finish) &&
                     find("ncclCommDestroy", nccl.leave) && find("ncclCommAbort", nccl.abort);
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

NcclGpus::NcclGpus(const NcclId& id, int rank, int size, std::function<void()> check_others)
    : check_others_(std::move(check_others)) {
  enter_here();
  int least = 0, greatest = 0;
  check(driver().priorities(&least, &greatest), "ask for priorities");
  NcclConfig config;
  settle(nccl().join(&group_, size, id, rank, &config), "join the ranks' GPUs");
  check(driver().make_stream(&stream_, kAlone, greatest), "make a stream");
  check(driver().make_event(&event_, kUntimed), "make an event");
}

NcclGpus::~NcclGpus() {
  if (std::uncaught_exceptions() > 0)
    give_up();  // the others wait for what does not come, and are not told yet
  try {
    if (group_) settle(nccl().finish(group_), "leave the ranks' GPUs");
    if (group_) nccl().leave(group_);
  } catch (const std::exception&) {  // another rank has ended; what runs was given up
  }
  if (event_) driver().free_event(event_);
  if (stream_) driver().free_stream(stream_);
}

// Until `done` or an error, which ends what the ranks do together.
template <class Done>
void NcclGpus::wait_until(Done done, const char* what) {
  auto looked = std::chrono::steady_clock::now();
  try {
    while (!done()) {
      const auto now = std::chrono::steady_clock::now();
      if (now - looked < kLook) continue;
      looked = now;
      check_others_();
      NcclStatus trouble = 0;
      check_nccl(nccl().trouble(group_, &trouble), "ask how it goes");
      if (trouble != kUnderWay) check_nccl(trouble, what);
    }
  } catch (...) {
    give_up();
    throw;
  }
}

// What NCCL was told to do is under way on its stream, or done.
void NcclGpus::settle(NcclStatus status, const char* what) {
  wait_until(
      [&] {
        if (status == kUnderWay) {
          std::this_thread::yield();
          check_nccl(nccl().trouble(group_, &status), "ask how it goes");
        }
        if (status != kUnderWay) check_nccl(status, what);
        return status != kUnderWay;
      },
      what);
}

void NcclGpus::begin() {
  if (!group_) fail(ErrorKind::kResource, "[nccl] the ranks' GPUs are not joined any more");
  check(driver().record_event(event_, thread_stream()), "record an event");
  check(driver().wait_in_stream(stream_, event_, 0), "wait for an event");
}

void NcclGpus::sum(float* data, size_t count) {
  begin();
  settle(nccl().sum(data, data, count, kNcclFloat, kNcclSum, group_, stream_), "sum over the ranks");
}

// One call a rank that has something of its own, all under way together.
template <class Call>
void NcclGpus::of_each(size_t ranks, Call call, const char* what) {
  begin();
  check_nccl(nccl().begin_together(), what);
  for (size_t r = 0; r < ranks; ++r)
    if (const NcclStatus status = call(r); status != kUnderWay) check_nccl(status, what);
  settle(nccl().end_together(), what);
}

void NcclGpus::sum_to_each(std::span<const std::span<float>> of_rank) {
  of_each(
      of_rank.size(),
      [&](size_t r) -> NcclStatus {
        float* const data = of_rank[r].data();
        if (of_rank[r].empty()) return 0;
        return nccl().sum_at(data, data, of_rank[r].size(), kNcclFloat, kNcclSum, static_cast<int>(r), group_,
                             stream_);
      },
      "sum over the ranks");
}

void NcclGpus::share(std::span<const std::span<std::byte>> of_rank) {
  of_each(
      of_rank.size(),
      [&](size_t r) -> NcclStatus {
        std::byte* const data = of_rank[r].data();
        if (of_rank[r].empty()) return 0;
        return nccl().spread(data, data, of_rank[r].size(), kNcclByte, static_cast<int>(r), group_, stream_);
      },
      "share among the ranks");
}

void NcclGpus::wait() {
  check(driver().record_event(event_, stream_), "record an event");
  check(driver().wait_in_stream(thread_stream(), event_, 0), "wait for an event");
  wait_until(
      [] {
        const Status status = driver().ask_stream(thread_stream());
        if (status != kNotReady) check(status, "a kernel failed");
        return status != kNotReady;
      },
      "the ranks' GPUs");
}

// Ends what runs: memory could not be freed under it.
void NcclGpus::give_up() {
  if (group_) nccl().abort(group_);
  group_ = nullptr;
}

}  // namespace flagscale::cuda
