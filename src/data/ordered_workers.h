#pragma once
// Items made one after another, worked on by several threads, and handed back in order; a bounded number at a
// time.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace flagscale::data {

template <class In, class Out>
class OrderedWorkers {
 public:
  using Work = std::function<Out(const In&)>;

  // `source` fills the next item or returns false; called by one thread at a time. `make_work` is called once
  // a thread. At most 2 * threads + 1 items are between source and next().
  OrderedWorkers(int threads, std::function<bool(In&)> source, std::function<Work()> make_work)
      : source_(std::move(source)), window_(2 * threads + 1) {
    std::vector<Work> works;
    for (int i = 0; i < threads; ++i) works.push_back(make_work());
    for (auto& work : works) threads_.emplace_back([this, work = std::move(work)] { loop(work); });
  }
  ~OrderedWorkers() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  OrderedWorkers(const OrderedWorkers&) = delete;
  OrderedWorkers& operator=(const OrderedWorkers&) = delete;

  // The next result in order, none at the end. Rethrows what source or work threw for that item.
  std::optional<Out> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock,
                  [this] { return done_.contains(handed_out_) || (exhausted_ && handed_out_ == taken_); });
    const auto at = done_.find(handed_out_);
    if (at == done_.end()) return std::nullopt;
    Result result = std::move(at->second);
    done_.erase(at);
    ++handed_out_;
    lock.unlock();
    changed_.notify_all();
    if (result.error) std::rethrow_exception(result.error);
    return std::move(result.value);
  }

 private:
  struct Result {
    std::optional<Out> value;
    std::exception_ptr error;
  };

  void loop(const Work& work) {
    for (;;) {
      In item;
      Result result;
      int64_t ticket = 0;
      bool more = false;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(
            lock, [this] { return stopped_ || exhausted_ || (!reading_ && taken_ < handed_out_ + window_); });
        if (stopped_ || exhausted_) return;
        reading_ = true;
        lock.unlock();
        try {
          more = source_(item);
        } catch (...) {
          result.error = std::current_exception();
        }
        lock.lock();
        reading_ = false;
        if (!more) exhausted_ = true;
        if (more || result.error) ticket = taken_++;
        if (result.error) done_[ticket].error = result.error;
      }
      changed_.notify_all();
      if (!more) return;
      try {
        result.value = work(item);
      } catch (...) {
        result.error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex_);
        done_.emplace(ticket, std::move(result));
      }
      changed_.notify_all();
    }
  }

  std::function<bool(In&)> source_;
  int64_t window_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Result> done_;
  int64_t taken_ = 0, handed_out_ = 0;
  bool stopped_ = false, exhausted_ = false, reading_ = false;
};

}  // namespace flagscale::data
