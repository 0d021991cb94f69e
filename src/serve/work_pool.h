#pragma once
// A few threads for what would hold up a connection's thread: tokenising, templates, grammars.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace flagscale::serve {

class WorkPool {
 public:
  WorkPool(int threads, size_t most);
  ~WorkPool();  // what waits is dropped
  // False when `most` pieces of work wait already. work must not throw.
  bool post(std::function<void()> work);

 private:
  void loop();
  const size_t most_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace flagscale::serve
