#pragma once
// Requests that are computed for one exchange: from the engine's events to the bytes of an answer.

#include <chrono>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "net/exchange.h"
#include "serve/context.h"
#include "serve/generation/answer_format.h"

namespace flagscale::serve {

struct GenerationPlan {
  std::vector<engine::Request> requests;         // one a prompt, each of `choices / requests` choices
  std::vector<std::unique_ptr<Choice>> choices;  // in order of prompt, then choice
  std::vector<std::string> echoes;               // text of each prompt, with echo; else empty
  std::string grammar_field;                     // that an error of a grammar names
  std::unique_ptr<AnswerFormat> format;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool open_ended = false;  // the request says no max_tokens
  int keep = 0;  // best_of: of each prompt's choices so many, the best by mean log-probability; 0: all
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Submits everything or nothing: throws what the engine refuses, before anything is answered. On any
  // thread.
  static void start(Context& context, std::shared_ptr<net::Exchange> exchange, GenerationPlan plan,
                    std::chrono::steady_clock::time_point arrival);

  Generation(Context& context, std::shared_ptr<net::Exchange> exchange, GenerationPlan plan,
             std::chrono::steady_clock::time_point arrival);
  ~Generation();

 private:
  using Clock = std::chrono::steady_clock;
  struct Timing {
    Clock::time_point first, last;
    double queue = 0, prefill = 0;  // seconds, as the engine tells them
    int64_t sent = 0;               // tokens of the chunks so far
  };

  void submit();
  // On the connection's thread, as everything below.
  void begin();
  void take(size_t request, engine::Event event);
  void apply(size_t request, engine::Event event);
  void echo(size_t request);
  void observe(size_t choice, int64_t before);
  bool is_due(const Choice& choice) const;
  void write(Choice& choice);
  void complete();
  std::vector<Choice*> best() const;
  Usage usage() const;

  Context& context_;
  std::shared_ptr<net::Exchange> exchange_;
  GenerationPlan plan_;
  const Clock::time_point arrival_;
  const size_t per_request_;
  std::vector<uint64_t> ids_;                              // set before begin()
  std::vector<std::pair<size_t, engine::Event>> early_;    // events of before begin()
  std::vector<std::vector<engine::OutputToken>> prompts_;  // log-probabilities
  std::vector<bool> echoed_, opened_;
  std::vector<Timing> timings_;
  struct Ended {
    size_t choices = 0;
    int64_t most_tokens = 0;
  };
  std::vector<Ended> ended_;  // of each request
  std::vector<int64_t> prompt_sizes_;
  std::vector<int32_t> first_ids_;  // of the prompts
  int64_t cached_ = 0;
  size_t finished_ = 0;
  bool begun_ = false, done_ = false;
};

}  // namespace flagscale::serve
