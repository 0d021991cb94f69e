#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"

namespace flagscale {

int available_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  long period = 0;
  if (file >> quota >> period && quota != "max" && period > 0)
    cores = std::clamp(static_cast<int>((std::atol(quota.c_str()) + period - 1) / period), 1, cores);
  return cores;
}

namespace {
constexpr int kMostThreads = 4096;

int wanted_threads(int threads) {
  if (threads > 0) return threads;
  if (const char* text = std::getenv("FLAGSCALE_THREADS"); text && *text) {
    char* end = nullptr;
    const long count = std::strtol(text, &end, 10);
    if (*end != 0 || count < 1 || count > kMostThreads)
      fail(ErrorKind::kInvalidArgument, "FLAGSCALE_THREADS is '{}', expected a number from 1 to {}", text,
           kMostThreads);
    return static_cast<int>(count);
  }
  if (const char* text = std::getenv("OMP_NUM_THREADS"))
    if (const int count = std::atoi(text); count > 0 && count <= kMostThreads) return count;
  return available_cores();
}
}  // namespace

void Team::for_each(int64_t n, FunctionRef<void(int64_t)> body, int64_t grain) const {
  if (n <= 0) return;
  if (size_ == 1 || n <= grain) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  std::atomic<int64_t> next{0};
  run([&](int) {
    for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < n;)
      for (int64_t i = begin; i < std::min(n, begin + grain); ++i) body(i);
  });
}

namespace {

// A worker or a caller that waits for another core's next store spins for some 100 us, which is longer than
// the serial work between two kernels, then sleeps.
constexpr int kSpins = 4000;

template <class T>
T await_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    __builtin_ia32_pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

// Each index of a call is taken once: by its worker, or by the caller when it has nothing else left to do. So
// a worker that the system does not run, because others want the cores, holds nobody up.
struct Team::Workers {
  struct alignas(64) Taken {
    std::atomic<uint32_t> call{0};
  };
  alignas(64) std::atomic<uint32_t> calls{0};
  const FunctionRef<void(int)>* body = nullptr;  // of the last call; null: the end
  alignas(64) std::atomic<int> running{0};
  std::vector<Taken> taken;  // of each worker
  std::vector<std::thread> threads;

  explicit Workers(int count) : taken(static_cast<size_t>(count)) {}

  // False where another did, also for a later call.
  bool take(int index, uint32_t call) {
    std::atomic<uint32_t>& last = taken[static_cast<size_t>(index - 1)].call;
    uint32_t before = last.load(std::memory_order_relaxed);
    return static_cast<int32_t>(call - before) > 0 &&
           last.compare_exchange_strong(before, call, std::memory_order_acq_rel);
  }
  void loop(int index) {
    for (uint32_t seen = 0;;) {
      seen = await_change(calls, seen);
      if (!take(index, seen)) continue;
      if (!body) return;  // it is that call's: the caller waits for whoever took an index
      (*body)(index);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
  uint32_t call(const FunctionRef<void(int)>* next) {
    body = next;
    running.store(static_cast<int>(threads.size()), std::memory_order_relaxed);
    const uint32_t number = calls.fetch_add(1, std::memory_order_release) + 1;
    calls.notify_all();
    return number;
  }
  void run_untaken(uint32_t number) {
    for (int index = 1; index <= static_cast<int>(threads.size()); ++index) {
      if (!take(index, number)) continue;
      (*body)(index);
      running.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
};

Team::Team(int threads) : size_(wanted_threads(threads)) {
  if (size_ == 1) return;
  workers_ = new Workers(size_ - 1);
  try {
    for (int i = 1; i < size_; ++i) workers_->threads.emplace_back([this, i] { workers_->loop(i); });
  } catch (const std::system_error&) {  // a limit on threads: as many as it allows
    size_ = 1 + static_cast<int>(workers_->threads.size());
  }
}

Team::~Team() {
  if (!workers_) return;
  workers_->call(nullptr);
  for (std::thread& thread : workers_->threads) thread.join();
  delete workers_;
}

void Team::run(FunctionRef<void(int)> body) const {
  if (size_ == 1) return body(0);
  const uint32_t number = workers_->call(&body);
  body(0);
  if (workers_->running.load(std::memory_order_acquire) > 0) workers_->run_untaken(number);
  for (int left = workers_->running.load(std::memory_order_acquire); left > 0;)
    left = await_change(workers_->running, left);
}

}  // namespace flagscale
