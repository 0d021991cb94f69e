#include "serve/generation/generation.h"

#include <algorithm>
#include <limits>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {

constexpr size_t kHoldBack = 256 << 10;  // unsent bytes from which chunks wait and are joined

std::string event(const std::string& data) { return "data: " + data + "\n\n"; }

// What a grammar's compiler or matcher says, without its name for the grammar; "" where it is another's word.
std::string_view of_grammar(std::string_view what) {
  for (const std::string_view kind : {"json_schema: ", "regex: ", "lark: ", "grammar: "})
    if (what.starts_with(kind)) return what.substr(kind.size());
  return {};
}

// As an error of the field that the grammar came from.
void throw_as_grammars(const Error& error, const std::string& field) {
  const std::string_view what = of_grammar(error.what());
  if (field.empty() || error.kind() != ErrorKind::kInvalidArgument || what.empty()) return;
  refuse(field, "{}: {}", field, what);
}

// Why a choice ended in an error: a field of the request, or the server.
ApiError error_of(const Choice& choice, const std::string& grammar_field) {
  if (!choice.refused()) return {500, choice.error()};
  const std::string_view what = of_grammar(choice.error());
  if (what.empty() || grammar_field.empty()) return {400, choice.error()};
  return {400, fmt::format("{}: {}", grammar_field, what), grammar_field};
}

// A body of some megabytes can ask for an answer of gigabytes. What is streamed goes out as it comes; an
// answer that may be as long as there is room for may be shorter.
void bound_size(GenerationPlan& plan, int64_t most) {
  int64_t prompts = 0, outputs = 0, of_a_token = 0;
  for (const engine::Request& request : plan.requests) {
    const engine::SamplingParams& sampling = request.sampling;
    prompts += request.n * static_cast<int64_t>(request.prompt.size()) * (sampling.prompt_logprobs + 1);
    if (plan.stream) continue;
    const int64_t each = int64_t{request.n} * (sampling.logprobs + 1);
    of_a_token += each;
    outputs += each * sampling.max_tokens;
  }
  if (prompts + outputs <= most) return;
  if (plan.open_ended && prompts + of_a_token <= most) {
    for (engine::Request& request : plan.requests)
      request.sampling.max_tokens =
          std::min(request.sampling.max_tokens, static_cast<int>((most - prompts) / of_a_token));
    return;
  }
  const char* field = prompts > outputs && plan.echoes.empty() ? "prompt_logprobs" : "logprobs";
  refuse(
      field,
      "{}: the answer could have {} log-probabilities, at most {} are allowed (--max-answer-logprobs): ask "
      "for fewer of each token, fewer tokens, or fewer prompts at once",
      field, prompts + outputs, most);
}

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

Generation::Generation(Context& context, std::shared_ptr<net::Exchange> exchange, GenerationPlan plan,
                       Clock::time_point arrival)
    : context_(context),
      exchange_(std::move(exchange)),
      plan_(std::move(plan)),
      arrival_(arrival),
      per_request_(plan_.choices.size() / plan_.requests.size()),
      prompts_(plan_.requests.size()),
      echoed_(plan_.requests.size()),
      opened_(plan_.choices.size()),
      timings_(plan_.choices.size()),
      ended_(plan_.requests.size()) {
  for (const engine::Request& request : plan_.requests) {
    prompt_sizes_.push_back(static_cast<int64_t>(request.prompt.size()));
    first_ids_.push_back(request.prompt.empty() ? 0 : request.prompt[0]);
  }
  ++context_.metrics.in_flight;
}

Generation::~Generation() { --context_.metrics.in_flight; }

void Generation::start(Context& context, std::shared_ptr<net::Exchange> exchange, GenerationPlan plan,
                       Clock::time_point arrival) {
  bound_size(plan, context.config.max_answer_logprobs);
  for (const engine::Request& request : plan.requests) {
    context.metrics.params_n.observe(request.n);
    context.metrics.params_max_tokens.observe(request.sampling.max_tokens);
  }
  const auto generation =
      std::make_shared<Generation>(context, std::move(exchange), std::move(plan), arrival);
  const std::string grammar_field = generation->plan_.grammar_field;
  try {
    generation->submit();
  } catch (const Error& error) {
    throw_as_grammars(error, grammar_field);
    throw;
  }
}

void Generation::submit() {
  const auto self = shared_from_this();
  std::vector<engine::Submission> all;
  for (size_t i = 0; i < plan_.requests.size(); ++i)
    all.push_back({std::move(plan_.requests[i]), [self, i](engine::Event event) {
                     self->exchange_->post(
                         [self, i, event = std::move(event)]() mutable { self->take(i, std::move(event)); });
                   }});
  ids_ = context_.service.submit(std::move(all));
  exchange_->post([self] { self->begin(); });
}

void Generation::begin() {
  begun_ = true;
  exchange_->on_disconnect([self = shared_from_this()] {
    if (self->done_) return;
    self->done_ = true;
    for (const uint64_t id : self->ids_) self->context_.service.cancel(id);
    self->context_.metrics.count_finish("abort");
  });
  if (plan_.stream && !done_)
    exchange_->begin({200,
                      "text/event-stream; charset=utf-8",
                      {},
                      {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
  for (auto& [request, event] : std::exchange(early_, {})) apply(request, std::move(event));
}

void Generation::take(size_t request, engine::Event event) {
  if (begun_) return apply(request, std::move(event));
  early_.emplace_back(request, std::move(event));
}

void Generation::apply(size_t request, engine::Event event) {
  if (done_) return;
  if (event.cached_tokens > 0) cached_ += event.cached_tokens;
  if (!event.prompt.empty()) prompts_[request] = std::move(event.prompt);
  if (!plan_.echoes.empty() && !echoed_[request]) echo(request);
  const size_t index = request * per_request_ + static_cast<size_t>(event.choice);
  Choice& choice = *plan_.choices.at(index);
  if (choice.finished()) return;
  const int64_t before = choice.tokens();
  if (before == 0)
    timings_[index].queue = event.queue_seconds, timings_[index].prefill = event.prefill_seconds;
  choice.put(event);
  observe(index, before);
  if (choice.finished()) {
    ++finished_;
    context_.metrics.count_finish(choice.finish_reason());
    // A stop string is found here, not in the engine.
    if (event.finish == engine::FinishReason::kNone) context_.service.cancel(ids_[request], event.choice);
  }
  if (plan_.stream && is_due(choice)) write(choice);
  if (finished_ == plan_.choices.size()) complete();
}

void Generation::echo(size_t request) {
  echoed_[request] = true;
  // Nothing stands before the first token, so it has no probability.
  std::vector<engine::OutputToken> tokens = {
      {first_ids_[request], std::numeric_limits<float>::quiet_NaN(), {}}};
  tokens.insert(tokens.end(), prompts_[request].begin(), prompts_[request].end());
  for (size_t i = 0; i < per_request_; ++i)
    plan_.choices[request * per_request_ + i]->echo(plan_.echoes[request], tokens);
}

void Generation::observe(size_t index, int64_t before) {
  Timing& timing = timings_[index];
  const int64_t tokens = plan_.choices[index]->tokens();
  const int64_t fresh = tokens - before;
  if (fresh <= 0) return;
  const auto now = Clock::now();
  if (before == 0) {
    timing.first = now;
    context_.metrics.time_to_first_token.observe(seconds(now - arrival_));
  } else {
    context_.metrics.inter_token_latency.observe(seconds(now - timing.last) / static_cast<double>(fresh));
  }
  timing.last = now;
  if (!plan_.choices[index]->finished()) return;
  context_.metrics.e2e_latency.observe(seconds(now - arrival_));
  context_.metrics.queue_time.observe(timing.queue);
  context_.metrics.prefill_time.observe(timing.prefill);
  context_.metrics.decode_time.observe(seconds(now - timing.first));
  context_.metrics.inference_time.observe(timing.prefill + seconds(now - timing.first));
  if (tokens > 1)
    context_.metrics.time_per_output_token.observe(seconds(now - timing.first) /
                                                   static_cast<double>(tokens - 1));
  context_.metrics.generation_tokens.observe(static_cast<double>(tokens));
  Ended& ended = ended_[index / per_request_];
  ended.most_tokens = std::max(ended.most_tokens, tokens);
  if (++ended.choices == per_request_)
    context_.metrics.max_generation_tokens.observe(static_cast<double>(ended.most_tokens));
  context_.metrics.prompt_tokens.observe(static_cast<double>(prompt_sizes_[index / per_request_]));
}

bool Generation::is_due(const Choice& choice) const {
  if (choice.finished()) return true;
  const int64_t sent = timings_[static_cast<size_t>(choice.index())].sent;
  return choice.has_news() && (sent == 0 || choice.tokens() - sent >= context_.config.stream_interval) &&
         exchange_->unsent() < kHoldBack;
}

void Generation::write(Choice& choice) {
  std::string data;
  timings_[static_cast<size_t>(choice.index())].sent = choice.tokens();
  if (!opened_[static_cast<size_t>(choice.index())]) {
    opened_[static_cast<size_t>(choice.index())] = true;
    if (const std::string opening = plan_.format->opening(choice); !opening.empty()) data += event(opening);
  }
  if (choice.finish_reason() == "error") {
    const ApiError error = error_of(choice, plan_.grammar_field);
    data += event(error_json(error.status(), error.what(), error.param()));
  }
  const Usage used = plan_.continuous_usage ? usage() : Usage{};
  data += event(plan_.format->chunk(choice, plan_.continuous_usage ? &used : nullptr));
  exchange_->write(std::move(data));
}

void Generation::complete() {
  done_ = true;
  if (plan_.stream) {
    if (plan_.include_usage) exchange_->write(event(plan_.format->usage_chunk(usage())));
    exchange_->write(event("[DONE]"));
    exchange_->end();
    return;
  }
  for (const auto& choice : plan_.choices) {
    if (choice->finish_reason() != "error") continue;
    const ApiError error = error_of(*choice, plan_.grammar_field);
    return exchange_->respond(error_response(error.status(), error.what(), error.param()));
  }
  exchange_->respond({200, "application/json", plan_.format->whole(best(), usage(), prompts_)});
}

std::vector<Choice*> Generation::best() const {
  std::vector<Choice*> all;
  for (const auto& choice : plan_.choices) all.push_back(choice.get());
  if (plan_.keep == 0) return all;
  std::vector<Choice*> kept;
  const auto mean = [](const Choice* choice) {
    return choice->cumulative_logprob() / static_cast<double>(std::max<int64_t>(choice->tokens(), 1));
  };
  for (size_t from = 0; from < all.size(); from += per_request_) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(from),
               last = first + static_cast<std::ptrdiff_t>(per_request_);
    std::stable_sort(first, last, [&](const Choice* a, const Choice* b) { return mean(a) > mean(b); });
    kept.insert(kept.end(), first, first + plan_.keep);
  }
  for (size_t i = 0; i < kept.size(); ++i) kept[i]->set_index(static_cast<int>(i));
  return kept;
}

Usage Generation::usage() const {
  Usage usage;
  usage.cached_tokens = cached_;
  for (const int64_t size : prompt_sizes_) usage.prompt_tokens += size;
  for (const auto& choice : plan_.choices) usage.completion_tokens += choice->tokens();
  return usage;
}

}  // namespace flagscale::serve
