#include "engine/schedule.h"

#include <algorithm>

namespace flagscale::engine {

namespace {

int64_t pages_for(int64_t tokens, int64_t page_tokens) { return (tokens + page_tokens - 1) / page_tokens; }

class Planner {
 public:
  Planner(std::span<const Progress> running, int64_t page_tokens, Budget& budget, StepPlan& plan)
      : running_(running), page_tokens_(page_tokens), budget_(budget), plan_(plan) {}

  void run() {
    int64_t generating = std::ranges::count_if(running_, [](const Progress& p) { return p.left == 1; });
    for (size_t i = 0; i < running_.size() && plan_.preempt < 0; ++i)
      if (running_[i].left == 1) generate(i, --generating);
    for (size_t i = 0; i < running_.size() && plan_.preempt < 0; ++i)
      if (running_[i].left > 1) fill(i);
  }

 private:
  // `behind` others generate too: each keeps its token and its row.
  void generate(size_t i, int64_t behind) {
    if (budget_.tokens <= 0 || budget_.rows <= 0) return;
    const Progress& p = running_[i];
    const int64_t drafts =
        std::clamp<int64_t>(std::min(budget_.tokens, budget_.rows) - 1 - behind, 0, p.drafts);
    if (drafts > 0 && pages_for(p.cached + 1 + drafts, page_tokens_) - p.pages <= budget_.pages)
      place(i, 1, drafts);
    else if (room(i, 1))
      place(i, 1, 0);
  }

  void fill(size_t i) {
    const Progress& p = running_[i];
    int64_t count = std::min(p.left, budget_.tokens);
    if (p.all_rows) count = std::min(count, budget_.rows);
    if (budget_.rows <= 0) count = std::min(count, p.left - 1);  // its last token wants a row
    if (count <= 0) return;
    if (!room(i, count)) {
      count = std::min(count, (p.pages + budget_.pages) * page_tokens_ - p.cached);
      if (plan_.preempt >= 0 || count <= 0) return;
    }
    place(i, count, 0);
  }

  // Are there pages? If not, the last in order gives way, unless that is this one.
  bool room(size_t i, int64_t count) {
    if (pages_for(running_[i].cached + count, page_tokens_) - running_[i].pages <= budget_.pages) return true;
    plan_.stalled = true;
    if (i + 1 < running_.size()) plan_.preempt = static_cast<int>(running_.size()) - 1;
    return false;
  }

  void place(size_t i, int64_t count, int64_t drafts) {
    const Progress& p = running_[i];
    budget_.pages -= std::max<int64_t>(0, pages_for(p.cached + count + drafts, page_tokens_) - p.pages);
    budget_.tokens -= count + drafts;
    budget_.rows -= p.all_rows ? count : count == p.left ? 1 + drafts : 0;
    plan_.chunks.push_back({static_cast<int>(i), p.cached, count, drafts});
  }

  std::span<const Progress> running_;
  int64_t page_tokens_;
  Budget& budget_;
  StepPlan& plan_;
};

}  // namespace

void plan_step(std::span<const Progress> running, int64_t page_tokens, Budget& budget, StepPlan& plan) {
  plan.chunks.clear();
  plan.preempt = -1;
  plan.stalled = false;
  Planner(running, page_tokens, budget, plan).run();
}

int64_t plan_start(const Progress& next, int64_t found, int64_t revived, int64_t reserved,
                   int64_t page_tokens, const Budget& budget) {
  const int64_t total = next.cached + next.left;
  const int64_t pages = pages_for(total, page_tokens) - found / page_tokens + revived;
  if (pages + reserved > budget.pages) return 0;
  const int64_t left = total - found;
  int64_t count = std::min(left, budget.tokens);
  if (next.all_rows) count = std::min(count, budget.rows);
  if (budget.rows <= 0) count = std::min(count, left - 1);
  return std::max<int64_t>(0, count);
}

}  // namespace flagscale::engine
