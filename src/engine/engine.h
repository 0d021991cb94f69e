#pragma once
// Requests in, tokens out: continuous batching over one Runner. One thread owns an engine.

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "engine/block_pool.h"
#include "engine/request.h"
#include "engine/runner.h"

namespace flagscale::engine {

class Engine {
 public:
  explicit Engine(std::unique_ptr<Runner> runner);

  // Queues a request. Throws Error{kInvalidArgument} when prompt and output cannot fit a sequence, or a token is not in
  // the vocabulary. The sequence stays valid until the engine goes.
  const Sequence& add(Request request);

  // One step for as many sequences as fit. False when nothing is left to do.
  bool step();

  // Called with each new token of a sequence, in step().
  std::function<void(const Sequence&, int32_t token)> on_token;

  const Runner& runner() const { return *runner_; }

 private:
  void admit();
  static StepChunk step_chunk(const Sequence& sequence, int64_t first, int64_t count);
  void finish_chunk(Sequence& sequence, int64_t first, int64_t count, int64_t& row);
  void accept(Sequence& sequence, int32_t token);

  std::unique_ptr<Runner> runner_;
  BlockPool pool_;
  std::deque<Sequence> sequences_;  // all, at fixed addresses
  std::deque<Sequence*> waiting_;
  std::vector<Sequence*> running_;
};

}  // namespace flagscale::engine
