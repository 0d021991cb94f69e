// What the next step computes: pages, prefixes and chunks for the sequences that schedule.h chooses.
#include <algorithm>

#include "base/check.h"
#include "engine/draw.h"
#include "engine/engine.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

namespace {

bool embeds(const Sequence& s) { return s.job->request.embed; }

// Prompt positions whose logits are still wanted: from prompt_scored to the last but one.
bool scores(const Sequence& s) {
  return s.job->request.sampling.prompt_logprobs >= 0 && s.choice == 0 && !embeds(s) &&
         s.prompt_scored + 1 < s.prompt_size();
}

}  // namespace

void Engine::plan() {
  step_.clear();
  for (Sequence* s : running_) s->computing = 0;
  Budget budget;
  if (take_planned(budget)) {
    admit(budget);
    if (!step_.chunks.empty()) return;
  }
  if (options_.speculation.draft_tokens > 0)
    for (Sequence* s : running_) guess(*s);
  bool preempted = false;
  for (;;) {
    budget = {runner_->options().max_tokens, runner_->options().max_rows, pool_.free_pages()};
    progress_.clear();
    for (const Sequence* s : running_)
      progress_.push_back({s->cached, s->size() - s->cached, static_cast<int64_t>(s->pages.size()),
                           static_cast<int64_t>(s->drafts.size()), scores(*s)});
    plan_step(progress_, op::kPageTokens, budget, plan_);
    if (plan_.preempt < 0) break;
    preempt(*running_[static_cast<size_t>(plan_.preempt)]);
    preempted = true;
  }
  for (const Chunk& chunk : plan_.chunks)
    add_chunk(step_, *running_[static_cast<size_t>(chunk.sequence)], chunk.first, chunk.count, chunk.drafts);
  if (!plan_.stalled && !preempted) admit(budget);
}

// No more than could be accepted: each step draws one token beyond its drafts.
void Engine::guess(Sequence& s) {
  s.drafts.clear();
  if (s.size() - s.cached != 1 || embeds(s)) return;
  const int64_t left = std::min<int64_t>(s.job->request.sampling.max_tokens - s.output_size(),
                                         runner_->options().max_length - s.size());
  propose(s.tokens, options_.speculation, std::min<int64_t>(options_.speculation.draft_tokens, left - 1),
          s.drafts);
}

void Engine::admit(Budget& budget) {
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < runner_->options().max_sequences &&
         budget.tokens > 0) {
    Sequence& s = **waiting_.begin();
    const int64_t count = start(s, budget);
    if (count <= 0) return;
    add_chunk(step_, s, s.cached, count, 0);
  }
}

// Takes a waiting sequence into the step, if there is room for it; returns its tokens in it, or 0.
int64_t Engine::start(Sequence& s, Budget& budget) {
  int64_t reserved = 0;
  for (const Sequence* r : running_)
    reserved +=
        std::max<int64_t>(0, pages_for(r->size() + op::kPageTokens) - static_cast<int64_t>(r->pages.size()));
  const int64_t found = find_prefix(s);
  const auto revived = std::ranges::count_if(prefix_, [&](int32_t page) { return pool_.holders(page) == 0; });
  budget.pages = pool_.free_pages();
  const int64_t count =
      plan_start({0, s.size(), 0, 0, scores(s)}, found, revived, reserved, op::kPageTokens, budget);
  if (count <= 0) return 0;
  waiting_.erase(&s);
  for (const int32_t page : prefix_) pool_.hold(page);
  s.pages = prefix_;
  s.cached = found;
  s.recorded = static_cast<int64_t>(prefix_.size());
  s.node = prefix_.empty() ? 0 : pool_.node(prefix_.back());
  s.state = Sequence::State::kRunning;
  running_.insert(std::ranges::lower_bound(running_, &s, ServedBefore{}), &s);
  if (!s.started) {
    s.started = true;
    s.job->started.store(true, std::memory_order_relaxed);
    s.scheduled = std::chrono::steady_clock::now();
    s.found = std::min(found, s.prompt_size());
    stats_.prefix_queries += s.prompt_size();
    stats_.prefix_hits += s.found;
    if (s.choice == 0) --unstarted_, stats_.prompt_tokens += s.prompt_size();
  }
  budget.rows -= scores(s) ? count : found + count == s.size() ? 1 : 0;
  budget.tokens -= count;
  s.drafts.clear();
  s.computing = 0;
  return count;
}

// Pages of the longest known prefix, into prefix_; its last token stays out, since its logits are wanted, and
// so do tokens whose log-probability is wanted. Returns the tokens.
int64_t Engine::find_prefix(const Sequence& s) {
  prefix_.clear();
  uint64_t node = 0;
  const int64_t most = scores(s) ? s.prompt_scored : s.size() - 1;
  const std::span<const int32_t> tokens = s.tokens;
  int64_t found = 0;
  for (; found + op::kPageTokens <= most; found += op::kPageTokens) {
    const int32_t page =
        pool_.find(node, s.job->scope, tokens.subspan(static_cast<size_t>(found), op::kPageTokens));
    if (page == BlockPool::kNone) break;
    prefix_.push_back(page);
    node = pool_.node(page);
  }
  return found;
}

// Tokens from `first` on. Where the sequence has none there yet, it is one that the step before this one
// draws.
void Engine::add_chunk(Step& step, Sequence& s, int64_t first, int64_t count, int64_t drafts) {
  static constexpr int32_t kUnknown = 0;
  const int64_t end = first + count, unknown = std::max<int64_t>(0, end - s.size());
  while (static_cast<int64_t>(s.pages.size()) < pages_for(end + drafts)) {
    s.pages.push_back(pool_.take());
    FLAGSCALE_CHECK(s.pages.back() != BlockPool::kNone);
  }
  StepChunk chunk;
  if (unknown > 0)
    chunk.ids = {&kUnknown, 1}, chunk.id_row = s.row;
  else
    chunk.ids =
        std::span<const int32_t>(s.tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  chunk.first = static_cast<int32_t>(first);
  chunk.drafts = std::span<const int32_t>(s.drafts).first(static_cast<size_t>(drafts));
  chunk.pages = &s.pages;
  if (s.job->adapter) chunk.adapter = s.job->adapter->slot;
  const bool last = end == s.size() + unknown;
  if (embeds(s)) {
    chunk.embed = last;
  } else {
    // Rows of prompt tokens to score, then the row to draw from: they are neighbours where a chunk has both.
    const int64_t scored = scores(s) ? std::min(end, s.prompt_size() - 1) : first;
    chunk.first_row = scores(s) ? std::max(first, s.prompt_scored) - first : count - 1;
    chunk.rows = scores(s) ? std::max<int64_t>(0, scored - first - chunk.first_row) : 0;
    if (last && s.job->request.sampling.max_tokens > 0) chunk.rows += 1 + drafts;
    std::vector<op::Draw>& draws = s.draws[static_cast<size_t>(step.turn)];
    draws.clear();
    if (runner_->draws() && chunk.rows > 0 && draws_plainly(s, unknown))
      plan_draws(s, unknown, chunk.rows, draws);
    chunk.draws = draws;
  }
  s.computing = count;
  step.of.push_back(&s);
  step.chunks.push_back(chunk);
}

void Engine::preempt(Sequence& s) {
  ++stats_.preemptions;
  release(s);
  std::erase(running_, &s);
  wait(s);
}

}  // namespace flagscale::engine
