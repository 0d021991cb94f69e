#include "engine/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "engine/check_request.h"
#include "engine/draw.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Engine::Engine(std::unique_ptr<Runner> runner, EngineOptions options)
    : runner_(std::move(runner)),
      options_(options),
      pool_(runner_->pages(), static_cast<int32_t>(op::kPageTokens)) {}

Engine::~Engine() = default;

std::shared_ptr<Job> Engine::prepare(Request request, Sink sink) const {
  check_request(request, *runner_);
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  job->sink = std::move(sink);
  job->arrived = Clock::now();
  if (const std::string& adapter = job->request.adapter; !adapter.empty()) {
    if (const Adapters* adapters = runner_->adapters()) job->adapter = adapters->find(adapter);
    if (!job->adapter) fail(ErrorKind::kNotFound, "no LoRA adapter '{}' is loaded", adapter);
  }
  job->left = job->request.n;
  for (int i = 0; i < job->request.n; ++i) {
    auto sequence = std::make_unique<Sequence>();
    sequence->job = job.get();
    sequence->choice = i;
    job->choices.push_back(std::move(sequence));
  }
  if (const Grammar& grammar = job->request.grammar; !grammar.kind.empty()) {
    const text::GrammarVocab& vocab = grammar_vocab();
    job->grammar_end = vocab.eos();
    job->choices[0]->grammar = vocab.compile(grammar.kind, grammar.text);
    for (size_t i = 1; i < job->choices.size(); ++i)
      job->choices[i]->grammar = job->choices[0]->grammar->clone();
  }
  return job;
}

// On the thread of whoever asks first, not on the engine's.
const text::GrammarVocab& Engine::grammar_vocab() const {
  const text::Tokenizer* tokenizer = options_.tokenizer;
  if (!tokenizer || tokenizer->eos() < 0 || tokenizer->eos() >= runner_->config().vocab_size)
    fail(ErrorKind::kUnsupported,
         "a grammar needs a tokenizer with an end-of-sequence token, this model has none");
  std::call_once(vocab_made_, [&] {
    vocab_ = std::make_unique<text::GrammarVocab>(
        *tokenizer, static_cast<int32_t>(runner_->config().vocab_size), tokenizer->eos());
  });
  return *vocab_;
}

uint64_t Engine::add(Request request, Sink sink) {
  auto job = prepare(std::move(request), std::move(sink));
  job->id = ++last_id_;
  const uint64_t id = job->id;
  add(std::move(job));
  return id;
}

void Engine::add(std::shared_ptr<Job> job) {
  last_id_ = std::max(last_id_, job->id);
  const uint64_t adapter = job->adapter ? job->adapter->id : 0;  // a name may be loaded again
  job->scope = options_.prefix_caching ? fmt::format("{}:{}", adapter, job->request.cache_salt)
                                       : fmt::format("{}", job->id);
  ++unstarted_;
  Sequence& first = *job->choices[0];
  first.tokens = job->request.prompt;
  jobs_.emplace(job->id, std::move(job));
  wait(first);
}

void Engine::wait(Sequence& s) {
  s.state = Sequence::State::kWaiting;
  waiting_.insert(&s);
}

bool Engine::step() { return compute() && deliver(); }

bool Engine::compute() {
  if (!has_work()) return false;
  const auto start = Clock::now();
  if (!take_launched()) {
    plan();
    stats_.plan_seconds += seconds_since(start);
  }
  FLAGSCALE_CHECK(!step_.chunks.empty());
  compute_model();
  draw_tokens();
  int64_t embedding = 0;
  for (size_t i = 0; i < step_.chunks.size(); ++i)
    if (step_.of[i]) finish_chunk(*step_.of[i], step_.chunks[i], embedding);
  std::erase_if(running_, [](const Sequence* s) { return s->state != Sequence::State::kRunning; });
  untold_.assign(step_.of.rbegin(), step_.of.rend());
  std::erase(untold_, nullptr);
  step_.of.clear();
  count_step();
  stats_.busy_seconds += seconds_since(start);
  return true;
}

// Where a core is free meanwhile, it tells what the last step gave and plans the next one, and grammars say
// what may come next: all of a step that is known before its logits are. Where none is, that comes first:
// another thread would take a core from the model's, whose others wait for it.
void Engine::compute_model() {
  masked_.clear();
  for (size_t i = 0; runner_->spares_a_core() && i < step_.chunks.size(); ++i) {
    Sequence* const s = step_.of[i];
    const StepChunk& chunk = step_.chunks[i];
    if (s && s->grammar && chunk.first + static_cast<int64_t>(chunk.ids.size()) == s->size())
      masked_.push_back(s);  // it draws
  }
  if (runner_->launches()) return launch_and_finish();
  const auto run = [this] { runner_->run(step_.chunks); };
  const auto prepare = [this] {
    deliver();
    plan_ahead();
    for (Sequence* s : masked_) prepare_mask(*s, runner_->config().vocab_size);
  };
  if (!runner_->spares_a_core()) deliver();
  auto start = Clock::now();
  if (runner_->spares_a_core()) {
    beside_.run(prepare, run);
  } else {
    plan_ahead();
    stats_.plan_seconds += seconds_since(std::exchange(start, Clock::now()));
    run();
  }
  stats_.model_seconds += seconds_since(start);
}

bool Engine::deliver() {
  while (!untold_.empty()) {
    Sequence& s = *untold_.back();
    untold_.pop_back();  // a sink that throws is not called again
    tell(s);
  }
  return has_work();
}

// A large vocabulary's rows are worth waking the team for.
void Engine::draw_tokens() {
  first_rows_.clear();
  int64_t rows = 0, logit_rows = 0;
  for (const StepChunk& chunk : step_.chunks) {
    first_rows_.push_back(rows);
    rows += chunk.rows;
    if (chunk.draws.empty()) logit_rows += chunk.rows;
  }
  const int64_t vocab = runner_->config().vocab_size;
  const auto one = [&](int64_t index) {
    const auto i = static_cast<size_t>(index);
    const StepChunk& chunk = step_.chunks[i];
    if (chunk.rows == 0 || !step_.of[i]) return;
    Sequence& s = *step_.of[i];
    if (!chunk.draws.empty())
      return draw(s, {nullptr, runner_->drawn(first_rows_[i]), vocab, chunk.rows}, chunk.drafts,
                  runner_->options().max_length);
    LogitRows all{runner_->logits(first_rows_[i]).data(), nullptr, vocab, chunk.rows};
    const int64_t draws = chunk.first + static_cast<int64_t>(chunk.ids.size()) == s.size() &&
                                  s.job->request.sampling.max_tokens > 0
                              ? 1 + static_cast<int64_t>(chunk.drafts.size())
                              : 0;
    const int64_t scored = chunk.rows - draws;
    if (scored > 0) score_prompt(s, chunk.first + chunk.first_row, {all.data, nullptr, vocab, scored});
    if (draws > 0 && s.event.finish == FinishReason::kNone)
      draw(s, {all.data + scored * vocab, nullptr, vocab, draws}, chunk.drafts,
           runner_->options().max_length);
  };
  const auto count = static_cast<int64_t>(step_.chunks.size());
  runner_->team().for_each(count, one, logit_rows * vocab < (1 << 20) ? count : 1);
}

void Engine::finish_chunk(Sequence& s, const StepChunk& chunk, int64_t& embedding) {
  const int64_t computed = chunk.first + static_cast<int64_t>(chunk.ids.size());
  const auto drawn = static_cast<int64_t>(s.event.tokens.size());
  s.cached = computed + std::max<int64_t>(0, drawn - 1);  // drafts that were right are there too
  stats_.generation_tokens += drawn;
  if (const auto guessed = static_cast<int64_t>(chunk.drafts.size()); guessed > 0) {
    ++stats_.drafts;
    stats_.draft_tokens += guessed;
    for (int64_t i = 0; i + 1 < drawn; ++i) {
      ++stats_.accepted_tokens;
      ++stats_.accepted_at[std::min(static_cast<size_t>(i), stats_.accepted_at.size() - 1)];
    }
  }
  record_pages(s);
  if (!s.told) s.event.prefill_seconds = seconds_since(s.scheduled);
  const bool prompt_done = computed >= s.prompt_size();
  if (chunk.embed) {
    const auto values = runner_->embedding(embedding++);
    s.event.embedding.assign(values.begin(), values.end());
    s.event.finish = FinishReason::kStop;
    if (!std::ranges::all_of(values, [](float x) { return std::isfinite(x); }))
      end_without_numbers(s, computed);
  } else if (prompt_done && s.job->request.sampling.max_tokens <= 0 &&
             s.event.finish == FinishReason::kNone) {
    s.event.finish = FinishReason::kLength;
  }
  // Who waits for a prompt that comes to nothing computes it instead.
  if (s.choice == 0 && (prompt_done || s.event.finish != FinishReason::kNone)) release_followers(*s.job);
  if (s.event.finish != FinishReason::kNone) end(s);
}

// Names the full pages, so that others find them; a page that has a twin already is given back for it.
void Engine::record_pages(Sequence& s) {
  const std::span<const int32_t> tokens = s.tokens;
  for (; (s.recorded + 1) * op::kPageTokens <= s.cached; ++s.recorded) {
    int32_t& page = s.pages[static_cast<size_t>(s.recorded)];
    const int32_t known =
        pool_.record(page, s.node, s.job->scope,
                     tokens.subspan(static_cast<size_t>(s.recorded * op::kPageTokens), op::kPageTokens));
    if (known != page) {
      pool_.hold(known);
      pool_.release(page);
      page = known;
    }
    s.node = pool_.node(page);
  }
}

void Engine::release_followers(Job& job) {
  for (const auto& choice : job.choices) {
    if (choice->state != Sequence::State::kHeld) continue;
    choice->tokens = job.request.prompt;
    wait(*choice);
  }
}

void Engine::tell(Sequence& s) {
  Event& event = s.event;
  const bool ended = s.state == Sequence::State::kEnded;
  if (event.tokens.empty() && !ended) return;  // prompt log-probabilities wait for the first token
  Job& job = *s.job;
  event.choice = s.choice;
  if (!s.told && s.choice == 0) event.cached_tokens = s.found;
  if (!s.told && s.started)
    event.queue_seconds = std::chrono::duration<double>(s.scheduled - job.arrived).count();
  s.told = true;
  if (!job.cancelled.load(std::memory_order_acquire)) job.sink(std::move(event));
  event = {};
  if (ended && --job.left == 0) {
    ended_.push_back(job.id);
    jobs_.erase(job.id);
  }
}

void Engine::end(Sequence& s) {
  if (s.state == Sequence::State::kWaiting) waiting_.erase(&s);
  s.state = Sequence::State::kEnded;
  forget(s);
  ++stats_.finished[static_cast<size_t>(s.event.finish)];
  release(s);
}

void Engine::release(Sequence& s) {
  for (size_t i = s.pages.size(); i-- > 0;) pool_.release(s.pages[i]);  // the last page is taken again first
  s.pages.clear();
  s.cached = s.recorded = 0;
  s.node = 0;
}

void Engine::cancel(uint64_t id) {
  deliver();
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  it->second->cancelled.store(true, std::memory_order_release);
  end_job(it->second, FinishReason::kCancelled, {});
}

void Engine::cancel(uint64_t id, int choice) {
  deliver();
  const auto it = jobs_.find(id);
  if (it == jobs_.end() || choice < 0 || choice >= it->second->request.n) return;
  const std::shared_ptr<Job> job = it->second;  // its last choice's event takes it out of jobs_
  Sequence& s = *job->choices[static_cast<size_t>(choice)];
  if (s.state == Sequence::State::kEnded) return;
  if (choice == 0) {
    if (!s.started) --unstarted_;
    release_followers(*job);  // who waits for its prompt computes it instead
  }
  end_choice(s, FinishReason::kCancelled, {});
}

void Engine::end_all(FinishReason reason, const std::string& error) {
  deliver();
  while (!jobs_.empty()) end_job(jobs_.begin()->second, reason, error);
}

// By value: the last choice's event takes the job out of jobs_.
void Engine::end_job(std::shared_ptr<Job> job, FinishReason reason, const std::string& error) {
  const Sequence& first = *job->choices[0];
  if (!first.started && first.state != Sequence::State::kEnded) --unstarted_;
  for (const auto& choice : job->choices)
    if (choice->state != Sequence::State::kEnded) end_choice(*choice, reason, error);
}

void Engine::end_choice(Sequence& s, FinishReason reason, const std::string& error) {
  s.event = {};
  s.event.finish = reason;
  s.event.error = error;
  end(s);
  std::erase(running_, &s);
  tell(s);
}

void Engine::count_step() {
  int64_t tokens = 0;
  for (const StepChunk& chunk : step_.chunks)
    tokens += static_cast<int64_t>(chunk.ids.size() + chunk.drafts.size());
  size_t bucket = 0;
  while (bucket + 1 < stats_.step_tokens.size() && tokens > (int64_t{1} << bucket)) ++bucket;
  ++stats_.step_tokens[bucket];
  ++stats_.steps;
  stats_.step_tokens_sum += tokens;
}

Stats Engine::stats() const {
  Stats stats = stats_;
  stats.running = static_cast<int64_t>(running_.size());
  stats.waiting = static_cast<int64_t>(waiting_.size());
  stats.kv_usage = static_cast<double>(pool_.held_pages()) / pool_.pages();
  return stats;
}

}  // namespace flagscale::engine
