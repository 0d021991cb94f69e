#include "engine/service.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "base/error.h"

namespace flagscale::engine {

namespace {
int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
}  // namespace

Service::Service(std::unique_ptr<Engine> engine, ServiceOptions options)
    : engine_(std::move(engine)), options_(options), thread_([this] { loop(); }) {}

Service::~Service() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    work_.store(true);
  }
  wake_.notify_one();
  thread_.join();
}

bool Service::has_room_for(size_t more) const {
  return unstarted_ + static_cast<int64_t>(submitted_.size() + more) <= options_.max_waiting;
}

void Service::refuse_without_room(size_t more) const {
  if (!failure_.empty()) throw Error(ErrorKind::kDevice, failure_);
  if (draining_ || stopping_) fail(ErrorKind::kBusy, "the server is stopping and takes no new requests");
  if (has_room_for(more)) return;
  if (more == 1) fail(ErrorKind::kBusy, "{} requests wait already: try again later", options_.max_waiting);
  fail(ErrorKind::kBusy, "of {} requests that may wait fewer than {} are free: try again later",
       options_.max_waiting, more);
}

bool Service::has_room() const {
  const std::lock_guard lock(mutex_);
  return has_room_for(1);
}

uint64_t Service::submit(Request request, Sink sink) {
  std::vector<Submission> one;
  one.push_back({std::move(request), std::move(sink)});
  return submit(std::move(one))[0];
}

std::vector<uint64_t> Service::submit(std::vector<Submission> all) {
  if (static_cast<int64_t>(all.size()) > options_.max_waiting)
    fail(ErrorKind::kInvalidArgument, "{} requests at once are more than the {} that may wait", all.size(),
         options_.max_waiting);
  {
    const std::lock_guard lock(mutex_);
    refuse_without_room(all.size());  // before the work of preparing, and again when it is done
  }
  std::vector<std::shared_ptr<Job>> jobs;
  for (Submission& one : all) jobs.push_back(engine_->prepare(std::move(one.request), std::move(one.sink)));
  std::vector<uint64_t> ids;
  std::unique_lock lock(mutex_);
  refuse_without_room(jobs.size());
  for (auto& job : jobs) {
    ids.push_back(job->id = next_id_++);
    jobs_.emplace(job->id, job);
    submitted_.push_back(std::move(job));
  }
  quiet_ = false;
  work_.store(true, std::memory_order_release);
  const bool idle = idle_;
  lock.unlock();
  if (idle) wake_.notify_one();
  return ids;
}

void Service::cancel(uint64_t id) {
  std::unique_lock lock(mutex_);
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  it->second->cancelled.store(true, std::memory_order_release);
  cancelled_.push_back(std::move(it->second));
  jobs_.erase(it);
  work_.store(true, std::memory_order_release);
  const bool idle = idle_;
  lock.unlock();
  if (idle) wake_.notify_one();
}

void Service::cancel(uint64_t id, int choice) {
  std::unique_lock lock(mutex_);
  if (!jobs_.contains(id)) return;
  cancelled_choices_.emplace_back(id, choice);
  work_.store(true, std::memory_order_release);
  const bool idle = idle_;
  lock.unlock();
  if (idle) wake_.notify_one();
}

Stats Service::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

Service::AdapterUse Service::adapter_use() const {
  AdapterUse use;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, job] : jobs_)
    if (job->adapter)
      (job->started.load(std::memory_order_relaxed) ? use.running : use.waiting).insert(job->adapter->name);
  return use;
}

double Service::stalled_seconds() const {
  const int64_t since = progress_.load(std::memory_order_acquire);
  if (since == 0) return 0;
  return static_cast<double>(now_ns() - std::max(since, runner().last_launch())) * 1e-9;
}

std::string Service::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Service::drain() {
  std::unique_lock lock(mutex_);
  draining_ = true;
  drained_.wait(lock, [this] { return quiet_; });
}

void Service::loop() {
  bool more = false;
  for (;;) {
    if (more ? work_.load(std::memory_order_acquire) : true) {
      if (!take_work(more)) break;
    }
    more = step();
    publish();
  }
  engine_->end_all(FinishReason::kCancelled);
  publish();
}

// Takes over what came in, waiting for it when the engine has nothing to do. False: the service ends.
bool Service::take_work(bool busy) {
  {
    std::unique_lock lock(mutex_);
    if (!busy && !work_.load()) {
      idle_ = true;
      progress_.store(0, std::memory_order_release);
      wake_.wait(lock, [this] { return work_.load(); });
    }
    if (idle_) progress_.store(now_ns(), std::memory_order_release);
    idle_ = false;
    work_.store(false);
    if (stopping_) {
      for (auto& job : submitted_) engine_->add(std::move(job));
      submitted_.clear();
      return false;
    }
    unstarted_ += static_cast<int64_t>(submitted_.size());
    taken_.swap(submitted_);
    dropped_.swap(cancelled_);
    dropped_choices_.swap(cancelled_choices_);
  }
  for (auto& job : taken_) engine_->add(std::move(job));
  for (const auto& job : dropped_) engine_->cancel(job->id);
  for (const auto& [id, choice] : dropped_choices_) engine_->cancel(id, choice);
  dropped_choices_.clear();
  taken_.clear();
  dropped_.clear();  // sinks are destroyed here, outside the lock
  return true;
}

bool Service::step() {
  try {
    if (!engine_->compute()) return false;
    // Whoever is told next finds what it is told counted, and no stall.
    progress_.store(now_ns(), std::memory_order_release);
    {
      const std::lock_guard lock(mutex_);
      stats_ = engine_->stats();
    }
    return engine_->has_work() || engine_->deliver();  // beside the next step's model, if there is one
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kDevice) fail_for_good(error.what());
    engine_->end_all(FinishReason::kError, error.what());
    return false;
  } catch (const std::exception& error) {
    engine_->end_all(FinishReason::kError, error.what());
    return false;
  }
}

// Whoever is told of it next finds that nothing else is taken.
void Service::fail_for_good(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) failure_ = reason;
}

// After a step: what others may know of it.
void Service::publish() {
  progress_.store(now_ns(), std::memory_order_release);
  {
    std::lock_guard lock(mutex_);
    stats_ = engine_->stats();
    unstarted_ = engine_->unstarted();
    for (const uint64_t id : engine_->ended()) {
      const auto it = jobs_.find(id);
      if (it == jobs_.end()) continue;
      ended_.push_back(std::move(it->second));
      jobs_.erase(it);
    }
  }
  engine_->clear_ended();
  ended_.clear();  // sinks are destroyed here, outside the lock, before drain() returns
  std::lock_guard lock(mutex_);
  if (quiet_ || !jobs_.empty() || !cancelled_.empty()) return;
  quiet_ = true;
  drained_.notify_all();
}

}  // namespace flagscale::engine
