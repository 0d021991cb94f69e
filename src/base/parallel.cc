#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>

#ifdef FLAGSCALE_STD_THREADS
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#else
#include <omp.h>
#endif

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
int wanted_threads(int threads) {
  if (threads > 0) return threads;
  for (const char* variable : {"FLAGSCALE_THREADS", "OMP_NUM_THREADS"})
    if (const char* text = std::getenv(variable); text && std::atoi(text) > 0) return std::atoi(text);
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

#ifndef FLAGSCALE_STD_THREADS

Team::Team(int threads) : size_(wanted_threads(threads)) {}
Team::~Team() = default;

void Team::run(FunctionRef<void(int)> body) const {
  if (size_ == 1) return body(0);
#pragma omp parallel num_threads(size_)
  body(omp_get_thread_num());
}

#else

struct Team::Workers {
  std::mutex mutex;
  std::condition_variable start, done;
  const FunctionRef<void(int)>* body = nullptr;
  uint64_t generation = 0;
  int running = 0;
  bool stop = false;
  std::vector<std::thread> threads;

  void loop(int index) {
    uint64_t seen = 0;
    for (;;) {
      std::unique_lock lock(mutex);
      start.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      const auto* current = body;
      lock.unlock();
      (*current)(index);
      lock.lock();
      if (--running == 0) done.notify_one();
    }
  }
};

Team::Team(int threads) : size_(wanted_threads(threads)), workers_(new Workers) {
  for (int i = 1; i < size_; ++i) workers_->threads.emplace_back([this, i] { workers_->loop(i); });
}

Team::~Team() {
  {
    std::lock_guard lock(workers_->mutex);
    workers_->stop = true;
  }
  workers_->start.notify_all();
  for (auto& thread : workers_->threads) thread.join();
  delete workers_;
}

void Team::run(FunctionRef<void(int)> body) const {
  if (size_ == 1) return body(0);
  {
    std::lock_guard lock(workers_->mutex);
    workers_->body = &body;
    workers_->running = size_ - 1;
    ++workers_->generation;
  }
  workers_->start.notify_all();
  body(0);
  std::unique_lock lock(workers_->mutex);
  workers_->done.wait(lock, [&] { return workers_->running == 0; });
}

#endif

}  // namespace flagscale
