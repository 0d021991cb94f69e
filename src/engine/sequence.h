#pragma once
// What the engine keeps of a request and of each of its choices. The engine alone changes them, on its thread
// or the one beside it, but for Job::cancelled.

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/adapters.h"
#include "engine/event.h"
#include "op/draw_rows/draw_rows.h"
#include "text/grammar.h"

namespace flagscale::engine {

struct Job;

// One choice.
struct Sequence {
  enum class State { kHeld, kWaiting, kRunning, kEnded };  // kHeld: until choice 0 has computed the prompt

  Job* job = nullptr;
  int choice = 0;
  State state = State::kHeld;
  std::vector<int32_t> tokens;  // prompt, then output
  std::vector<int32_t> pages;   // in order of position; the first `recorded` are in the prefix cache
  int64_t cached = 0;           // tokens whose keys and values are in pages
  int64_t recorded = 0;
  uint64_t node = 0;  // the prefix cache's name for the content of the recorded pages
  std::unordered_map<int32_t, int>
      output_counts;  // token -> times in the output; kept where a penalty wants it
  std::unique_ptr<text::GrammarMatcher> grammar;  // null: free
  std::vector<uint32_t> mask;                     // what its grammar lets come next
  bool masked = false;                            // mask is that of the tokens there are
  bool may_end = false;                           // its grammar lets the text end here
  std::vector<int32_t> drafts;                    // guesses of the current step
  std::array<std::vector<op::Draw>, 2> draws;     // of its rows, where the runner draws, by the step's turn
  int64_t computing = 0;                          // tokens of the step launched last, without them
  int32_t row = 0;                                // of that step, which its next token is drawn from

  Event event;        // that the current step fills
  bool told = false;  // an event went out
  bool started = false;
  std::chrono::steady_clock::time_point scheduled;  // when it started
  int64_t found = 0;                                // prompt tokens that the prefix cache had
  int64_t prompt_scored = 0;                        // prompt tokens whose log-probability is known

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t prompt_size() const;
  int64_t output_size() const { return size() - prompt_size(); }
};

struct Job {
  uint64_t id = 0;  // order of arrival
  Request request;
  Sink sink;
  std::chrono::steady_clock::time_point arrived;
  std::shared_ptr<const Adapter> adapter;  // null: the base model
  std::string scope;                       // whose prefixes it shares: adapter and salt
  int32_t grammar_end = -1;                // the token that a grammar calls the end
  std::vector<std::unique_ptr<Sequence>> choices;
  int left = 0;                        // choices that have not ended
  std::atomic<bool> cancelled{false};  // its sink is not called any more
  std::atomic<bool> started{false};    // its prompt is computed, or was
};

inline int64_t Sequence::prompt_size() const { return static_cast<int64_t>(job->request.prompt.size()); }

// Order of service: priority, then arrival, then choice.
struct ServedBefore {
  bool operator()(const Sequence* a, const Sequence* b) const {
    if (a->job->request.priority != b->job->request.priority)
      return a->job->request.priority < b->job->request.priority;
    return a->job->id != b->job->id ? a->job->id < b->job->id : a->choice < b->choice;
  }
};

}  // namespace flagscale::engine
