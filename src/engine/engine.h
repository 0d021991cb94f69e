#pragma once
// Requests in, events out: continuous batching over one Runner, with a prefix cache and preemption. One
// thread owns an engine; prepare() may be called from any.

#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "engine/beside.h"
#include "engine/block_pool.h"
#include "engine/next_step.h"
#include "engine/runner.h"
#include "engine/schedule.h"
#include "engine/sequence.h"
#include "engine/speculate.h"
#include "engine/stats.h"

namespace flagscale::engine {

struct EngineOptions {
  bool prefix_caching = true;  // false: only the choices of one request share pages
  Speculation speculation;
  const text::Tokenizer* tokenizer = nullptr;  // for grammars; must outlive the engine
  bool plan_ahead = true;  // a step while the one before it computes, and on a GPU launch it too where the
                           // host need not know the tokens; the answers are the same
};

class Engine {
 public:
  explicit Engine(std::unique_ptr<Runner> runner, EngineOptions options = {});
  ~Engine();

  // What the request becomes when added. Throws Error{kInvalidArgument} naming what cannot run: a token
  // outside the vocabulary, a length beyond a sequence or the cache, a parameter out of its range, a grammar
  // that does not compile or would cost too much; Error{kNotFound} for an adapter that is not loaded.
  std::shared_ptr<Job> prepare(Request request, Sink sink) const;

  // Queues a job; its id, above every earlier one's, decides between equal priorities.
  void add(std::shared_ptr<Job> job);
  uint64_t add(Request request, Sink sink);  // prepares it first; ids count from 1

  // Ends a job without an event. Unknown and ended ids are fine.
  void cancel(uint64_t id);
  // Ends one of its choices, with an event of kCancelled; its pages are free at once. As above.
  void cancel(uint64_t id, int choice);
  // Ends every job with an event of this reason.
  void end_all(FinishReason reason, const std::string& error = {});

  // One step for as many sequences as fit. False when nothing is left to do.
  bool step();
  // The same in two halves, for who has something to do between them: compute() is false when there was
  // nothing to do; deliver() calls the sinks, and is false when nothing is left. Between two steps it may be
  // left out: the second compute() calls the first one's sinks beside the model, on a thread of its own.
  bool compute();
  bool deliver();
  bool has_work() const { return !running_.empty() || !waiting_.empty(); }

  // Ids of the jobs that ended since clear_ended().
  const std::vector<uint64_t>& ended() const { return ended_; }
  void clear_ended() { ended_.clear(); }

  int64_t unstarted() const { return unstarted_; }  // jobs that have not run yet
  Stats stats() const;
  const BlockPool& pool() const { return pool_; }
  const Runner& runner() const { return *runner_; }

 private:
  const text::GrammarVocab& grammar_vocab() const;
  void plan();
  bool take_planned(Budget& budget);
  void plan_ahead();
  bool expect_progress();
  bool start_ahead();
  void add_part(Sequence& sequence, int64_t first, int64_t count, int64_t left);
  void give_pages(const NextStep::Part& part);
  void launch_ahead();
  bool take_launched();
  void forget(const Sequence& sequence);
  bool computes_prompt_of(const Sequence& sequence) const;
  void guess(Sequence& sequence);
  void admit(Budget& budget);
  int64_t find_prefix(const Sequence& sequence);
  int64_t start(Sequence& sequence, Budget& budget);
  void add_chunk(Step& step, Sequence& sequence, int64_t first, int64_t count, int64_t drafts);
  void preempt(Sequence& sequence);
  void compute_model();
  void launch(Step& step);
  void launch_and_finish();
  void wait(Sequence& sequence);
  void draw_tokens();
  void finish_chunk(Sequence& sequence, const StepChunk& chunk, int64_t& embedding);
  void record_pages(Sequence& sequence);
  void release_followers(Job& job);
  void tell(Sequence& sequence);
  void end(Sequence& sequence);
  void end_choice(Sequence& sequence, FinishReason reason, const std::string& error);
  void end_job(std::shared_ptr<Job> job, FinishReason reason, const std::string& error);
  void release(Sequence& sequence);
  void count_step();

  std::unique_ptr<Runner> runner_;
  EngineOptions options_;
  mutable std::once_flag vocab_made_;
  mutable std::unique_ptr<text::GrammarVocab> vocab_;  // made for the first grammar
  BlockPool pool_;
  std::unordered_map<uint64_t, std::shared_ptr<Job>> jobs_;
  std::set<Sequence*, ServedBefore> waiting_;
  std::vector<Sequence*> running_;  // in order of service
  std::vector<uint64_t> ended_;
  int64_t unstarted_ = 0;
  uint64_t last_id_ = 0;
  Stats stats_;

  // Of the current step, kept for their memory.
  StepPlan plan_;
  std::vector<Progress> progress_;
  Step step_;
  std::vector<Sequence*> untold_;    // the last step's from the last one on, whose sinks are to be called
  std::vector<int64_t> first_rows_;  // of each chunk
  std::vector<int32_t> prefix_;      // pages that find_prefix() found
  std::vector<Sequence*> masked_;    // that draw under a grammar
  Beside beside_;

  // Of the step after it.
  NextStep next_;
  StepPlan next_plan_;
  std::vector<Progress> expected_;
  std::vector<Sequence*> expected_of_;
  int64_t leaving_ = 0;  // that end by their length in the current step
  Step launched_;        // without chunks: it was not launched
};

}  // namespace flagscale::engine
