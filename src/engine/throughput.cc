#include "engine/throughput.h"

#include <chrono>
#include <random>
#include <utility>

#include "base/error.h"

namespace flagscale::engine {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

class ThroughputRun {
 public:
  ThroughputRun(Engine& engine, const ThroughputOptions& options)
      : engine_(engine), options_(options), random_(options.seed), before_(engine.stats()), last_(before_) {}

  Throughput run(const std::function<bool(const Throughput&)>& tick) {
    begin_ = step_end_ = Clock::now();
    give();
    while (!result_.interrupted && engine_.compute()) {
      count_step();
      if (!engine_.has_work()) engine_.deliver();  // else beside the next step's model
      if (!error_.empty()) fail(ErrorKind::kCorrupt, "a request failed: {}", error_);
      give();
      result_.interrupted = !tick(result_);
    }
    if (result_.interrupted) engine_.end_all(FinishReason::kCancelled);
    return result_;
  }

 private:
  void give() {
    while (given_ < options_.prompts && (options_.concurrency == 0 || under_way_ < options_.concurrency)) {
      engine_.add(next(), [this](const Event& event) {
        if (event.finish == FinishReason::kNone) return;
        --under_way_;
        if (event.finish == FinishReason::kError) error_ = event.error;
        if (event.finish == FinishReason::kLength) ++result_.finished;
      });
      ++given_, ++under_way_;
    }
  }

  Request next() {
    std::uniform_int_distribution<int32_t> id(0,
                                              static_cast<int32_t>(engine_.runner().config().vocab_size) - 1);
    Request request;
    request.prompt.resize(static_cast<size_t>(options_.input_tokens));
    for (int32_t& token : request.prompt) token = id(random_);
    request.sampling.temperature = options_.temperature;
    request.sampling.max_tokens = static_cast<int>(options_.output_tokens);
    request.sampling.seed = options_.seed + static_cast<uint64_t>(given_);
    request.adapter = options_.adapter;
    return request;
  }

  void count_step() {
    const Stats stats = engine_.stats();
    const auto end = Clock::now();
    const double since = seconds_between(step_end_, end), busy = stats.busy_seconds - last_.busy_seconds,
                 model = stats.model_seconds - last_.model_seconds,
                 planned = stats.plan_seconds - last_.plan_seconds;
    // Of a step that was launched already nothing is planned.
    if (stats.steps > before_.steps + 1 && planned > 0)
      result_.idle_seconds += after_ + since - busy + planned;
    after_ = busy - model - planned;
    const int64_t tokens = stats.step_tokens_sum - last_.step_tokens_sum;
    Throughput::Steps& steps =
        tokens > stats.generation_tokens - last_.generation_tokens ? result_.prefill : result_.decode;
    ++steps.count, steps.tokens += tokens, steps.seconds += since;
    result_.seconds = seconds_between(begin_, end);
    result_.prompt_tokens = stats.prompt_tokens - before_.prompt_tokens;
    result_.output_tokens = stats.generation_tokens - before_.generation_tokens;
    result_.launched_ahead = stats.steps_launched_ahead - before_.steps_launched_ahead;
    result_.model_seconds = stats.model_seconds - before_.model_seconds;
    result_.plan_seconds = stats.plan_seconds - before_.plan_seconds;
    result_.preemptions = stats.preemptions - before_.preemptions;
    last_ = stats, step_end_ = end;
  }

  Engine& engine_;
  const ThroughputOptions& options_;
  std::mt19937_64 random_;
  const Stats before_;
  Stats last_;
  Clock::time_point begin_, step_end_;
  double after_ = 0;  // from the end of the last step's model to its own
  int64_t given_ = 0, under_way_ = 0;
  std::string error_;
  Throughput result_;
};

}  // namespace

Throughput measure_throughput(Engine& engine, const ThroughputOptions& options,
                              const std::function<bool(const Throughput&)>& tick) {
  return ThroughputRun(engine, options).run(tick);
}

}  // namespace flagscale::engine
