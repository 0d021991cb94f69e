#pragma once
// A thread for what can be done of a step while its model computes. It starts with the first work.

#include <atomic>
#include <exception>
#include <functional>
#include <thread>

#include "base/parallel.h"

namespace flagscale::engine {

class Beside {
 public:
  Beside() = default;
  ~Beside();
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;

  // Runs both at once; returns, or throws what body or else work throws, when both have ended.
  void run(std::function<void()> work, FunctionRef<void()> body);

 private:
  enum State : int { kIdle, kWork, kStop };
  void wait();
  void loop();

  std::atomic<int> state_{kIdle};
  std::function<void()> work_;
  std::exception_ptr thrown_;  // by work
  std::thread thread_;
};

}  // namespace flagscale::engine
