#include "engine/step_graphs.h"

#include <algorithm>

#include "base/log.h"

namespace flagscale::engine {

bool StepGraphs::replay(const Key& key, const std::function<void()>& launches) {
  ++step_;
  if (most_ == 0) return false;
  const auto [at, is_new] = entries_.try_emplace(key);
  Entry& entry = at->second;
  entry.step = step_;
  if (is_new) return false;
  try {
    if (!entry.graph) {
      if (size() >= most_) drop_oldest();
      entry.graph = std::make_unique<cuda::Graph>(launches);
    }
    entry.graph->launch();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kResource) throw;
    keep_fewer(error);
    return false;
  }
  return true;
}

void StepGraphs::clear() {
  cuda::synchronize();
  entries_.clear();
}

size_t StepGraphs::size() const {
  return static_cast<size_t>(
      std::ranges::count_if(entries_, [](const auto& entry) { return entry.second.graph != nullptr; }));
}

void StepGraphs::drop_oldest() {
  auto oldest = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at)
    if (at->second.graph && (oldest == entries_.end() || at->second.step < oldest->second.step)) oldest = at;
  if (oldest->second.step + 1 >= step_) cuda::synchronize();  // it may be under way
  entries_.erase(oldest);
}

// Without graphs a step is slower, and no request ends for it.
void StepGraphs::keep_fewer(const Error& error) {
  most_ = size() / 2;
  clear();
  if (has_told_) return;
  has_told_ = true;
  warn("no memory for the graph of another step: steps are launched kernel by kernel, {}; {}",
       most_ > 0 ? "but for fewer graphs than before" : "which is slower", error.what());
}

}  // namespace flagscale::engine
