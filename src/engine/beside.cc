#include "engine/beside.h"

#include <utility>

namespace flagscale::engine {

Beside::~Beside() {
  state_.store(kStop);
  state_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Beside::run(std::function<void()> work, FunctionRef<void()> body) {
  work_ = std::move(work);
  state_.store(kWork, std::memory_order_release);
  state_.notify_all();
  if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  try {
    body();
  } catch (...) {
    wait();
    thrown_ = nullptr;
    throw;
  }
  wait();
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void Beside::wait() { state_.wait(kWork, std::memory_order_acquire); }

void Beside::loop() {
  for (;;) {
    state_.wait(kIdle, std::memory_order_acquire);
    if (state_.load(std::memory_order_acquire) == kStop) return;
    try {
      work_();
    } catch (...) {
      thrown_ = std::current_exception();
    }
    state_.store(kIdle, std::memory_order_release);
    state_.notify_all();
  }
}

}  // namespace flagscale::engine
