// The next step, planned before the tokens of the current one are known: who gets how many tokens, their
// pages, and who starts. What the model computes meanwhile reads nothing of this.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/engine.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

namespace {

// What only the tokens tell: guesses follow them, and scored prompts move as they are scored.
bool is_plain(const Sequence& s) {
  return !s.job->request.embed && s.job->request.sampling.prompt_logprobs < 0;
}

}  // namespace

// Called where nothing but the model's inputs and outputs changes meanwhile, so that it may run on a thread
// beside. Leaves it to plan() where pages run out: who gives way is known then.
void Engine::plan_ahead() {
  next_.parts.clear();
  next_.pages.clear();
  next_.made = next_.whole = false;
  if (!options_.plan_ahead || options_.speculation.draft_tokens > 0 || !expect_progress()) return;
  next_.left = {runner_->options().max_tokens, runner_->options().max_rows, pool_.free_pages()};
  plan_step(expected_, op::kPageTokens, next_.left, next_plan_);
  if (next_plan_.preempt >= 0 || next_plan_.stalled) return;
  next_.made = true;
  for (const Chunk& chunk : next_plan_.chunks) {
    const auto i = static_cast<size_t>(chunk.sequence);
    add_part(*expected_of_[i], chunk.first, chunk.count, expected_[i].left);
  }
  next_.whole = start_ahead();
}

// Where the running sequences will be when the current step has ended: each that draws has a token more. Who
// ends by its length is left out; who ends otherwise is forgotten when it does. False: it cannot be known.
bool Engine::expect_progress() {
  expected_.clear();
  expected_of_.clear();
  leaving_ = 0;
  for (Sequence* s : running_) {
    if (!is_plain(*s)) return false;
    const int64_t cached = s->cached + s->computing;
    int64_t size = s->size();
    if (cached == size) {  // it draws
      if (s->output_size() + 1 >= s->job->request.sampling.max_tokens ||
          ++size >= runner_->options().max_length) {
        ++leaving_;
        continue;
      }
    }
    expected_.push_back({cached, size - cached, static_cast<int64_t>(s->pages.size())});
    expected_of_.push_back(s);
  }
  return true;
}

// Not beside a prompt whose pages this one might find when the step has ended: false, for then it may start.
bool Engine::start_ahead() {
  while (!waiting_.empty() && next_.left.tokens > 0 &&
         static_cast<int64_t>(running_.size()) - leaving_ < runner_->options().max_sequences) {
    Sequence& s = **waiting_.begin();
    if (!is_plain(s) || computes_prompt_of(s)) return false;
    const int64_t count = start(s, next_.left);
    if (count <= 0) return true;
    add_part(s, s.cached, count, s.size() - s.cached);
  }
  return true;
}

// Whether a prompt that begins with the same page is computed in the current step or the next one.
bool Engine::computes_prompt_of(const Sequence& s) const {
  const auto shares = [&](const Sequence* other) {
    return other && other->job->scope == s.job->scope && s.size() > op::kPageTokens &&
           other->size() >= op::kPageTokens &&
           std::equal(s.tokens.begin(), s.tokens.begin() + op::kPageTokens, other->tokens.begin());
  };
  for (size_t i = 0; i < step_.chunks.size(); ++i)
    if (step_.chunks[i].ids.size() > 1 && shares(step_.of[i])) return true;
  return std::ranges::any_of(
      next_.parts, [&](const NextStep::Part& part) { return part.count > 1 && shares(part.sequence); });
}

void Engine::add_part(Sequence& s, int64_t first, int64_t count, int64_t left) {
  const size_t begin = next_.pages.size();
  for (auto have = static_cast<int64_t>(s.pages.size()); have < pages_for(first + count); ++have) {
    next_.pages.push_back(pool_.take());
    FLAGSCALE_CHECK(next_.pages.back() != BlockPool::kNone);
  }
  next_.parts.push_back({&s, first, count, left, begin, next_.pages.size()});
}

// Of a sequence that ends: nothing of it is left. Where its part is launched already, that computes for
// nobody; its pages may be taken again all the same, since who takes them computes behind it.
void Engine::forget(const Sequence& s) {
  std::ranges::replace(launched_.of, &s, nullptr);
  for (NextStep::Part& part : next_.parts) {
    if (part.sequence != &s) continue;
    part.sequence = nullptr;
    for (size_t i = part.pages_begin; i < part.pages_end; ++i) pool_.release(next_.pages[i]);
    next_.left.tokens += part.count;
    next_.left.rows += part.count == part.left ? 1 : 0;
  }
}

void Engine::give_pages(const NextStep::Part& part) {
  std::vector<int32_t>& pages = part.sequence->pages;
  for (size_t i = part.pages_begin; i < part.pages_end; ++i) pages.push_back(next_.pages[i]);
}

// The step that was planned ahead, with the tokens that have been drawn since. False: there is none, or a
// sequence is not where it was expected to be; the pages that were taken stay with who will need them.
bool Engine::take_planned(Budget& budget) {
  if (!std::exchange(next_.made, false)) return false;
  std::erase_if(next_.parts, [](const NextStep::Part& part) { return !part.sequence; });
  for (const NextStep::Part& part : next_.parts) give_pages(part);
  const bool holds = std::ranges::all_of(next_.parts, [](const NextStep::Part& part) {
    return part.sequence->cached == part.first && part.sequence->size() - part.first == part.left;
  });
  if (holds) {
    for (const NextStep::Part& part : next_.parts)
      add_chunk(step_, *part.sequence, part.first, part.count, 0);
    budget = next_.left;
    stats_.steps_planned_ahead += next_.parts.empty() ? 0 : 1;
  }
  next_.parts.clear();
  return holds;
}

}  // namespace flagscale::engine
