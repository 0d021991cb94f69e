#pragma once
// The thread boundary: one engine thread inside, every method may be called from any thread.
//
//   Service service(std::make_unique<Engine>(std::make_unique<Runner>(...), EngineOptions{}), {});
//   const uint64_t id = service.submit(request, [](Event event) { ... });   // not on the caller's thread
//   service.cancel(id);
//
// Stop strings, text and parsers are the caller's side: it cancels what it has enough of.

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace flagscale::engine {

struct ServiceOptions {
  int max_waiting = 1024;  // requests that have not started
};

struct Submission {
  Request request;
  Sink sink;
};

class Service {
 public:
  Service(std::unique_ptr<Engine> engine, ServiceOptions options);
  ~Service();  // what still runs gets a last event, kCancelled

  // Throws Error{kInvalidArgument} naming what cannot run, Error{kBusy} when max_waiting requests wait or
  // drain() was called, Error{kDevice} once the GPU has failed. A grammar is compiled here, on the caller's
  // thread.
  uint64_t submit(Request request, Sink sink);
  // All of them or none: throws as above, Error{kInvalidArgument} for more than can ever wait at once.
  std::vector<uint64_t> submit(std::vector<Submission> all);
  // Whether fewer than max_waiting wait, for who would rather know it before making a request.
  bool has_room() const;

  // The sink gets nothing after this returns, but for one event that may be under way on the engine's thread.
  // Unknown and ended ids are fine.
  void cancel(uint64_t id);
  // Ends one choice of it, whose pages are free at once; the others go on.
  void cancel(uint64_t id, int choice);

  Stats stats() const;
  // Names of the adapters that requests are for which have started, and of those that others wait for.
  struct AdapterUse {
    std::set<std::string> running, waiting;
  };
  AdapterUse adapter_use() const;

  // Since the engine's thread last finished a step, or on the CPU an op of one; 0 while it has nothing to do.
  double stalled_seconds() const;

  // Why nothing can be computed any more: the GPU failed. What ran has ended with these words; submit()
  // throws Error{kDevice}. "" while all is well.
  std::string failure() const;

  // No new requests from here on; returns when all that there are have ended.
  void drain();

  const Runner& runner() const { return engine_->runner(); }

 private:
  void loop();
  bool take_work(bool busy);
  bool step();
  void fail_for_good(const std::string& reason);
  void publish();
  bool has_room_for(size_t more) const;         // mutex_ is held
  void refuse_without_room(size_t more) const;  // as well

  std::unique_ptr<Engine> engine_;
  const ServiceOptions options_;
  mutable std::mutex mutex_;  // guards what follows, up to the atomics
  std::condition_variable wake_, drained_;
  std::unordered_map<uint64_t, std::shared_ptr<Job>> jobs_;  // not ended
  std::vector<std::shared_ptr<Job>> submitted_, cancelled_;
  std::vector<std::pair<uint64_t, int>> cancelled_choices_;
  int64_t unstarted_ = 0;  // in the engine, as of its last step
  uint64_t next_id_ = 1;
  bool draining_ = false, stopping_ = false, idle_ = true;
  bool quiet_ = true;  // no request is left, nor anything of one
  std::string failure_;
  Stats stats_;
  std::atomic<bool> work_{false};                              // what take_work() takes has changed
  std::atomic<int64_t> progress_{0};                           // clock of the last step's end, 0 when idle
  std::vector<std::shared_ptr<Job>> taken_, dropped_, ended_;  // the thread's own
  std::vector<std::pair<uint64_t, int>> dropped_choices_;      // as well
  std::thread thread_;
};

}  // namespace flagscale::engine
