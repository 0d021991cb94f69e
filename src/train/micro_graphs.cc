#include "train/micro_graphs.h"

#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace flagscale::train {

bool KeptGraph::launch(bool anew, const std::function<void()>& launches) {
  if (without_) return false;
  try {
    if (anew) graph_.reset();
    if (!graph_) graph_ = std::make_unique<cuda::Graph>(launches);
    graph_->launch();
    return true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kResource) throw;
    static std::once_flag told;
    std::call_once(told, [&] {
      warn(
          "no memory for a graph of the training's steps: kernels are launched one by one, which is slower; "
          "{}",
          error.what());
    });
  }
  graph_.reset();
  without_ = true;
  return false;
}

// The first loads what it needs.
void ReplayedLaunches::run(const std::function<void()>& launches) {
  if (!std::exchange(met_, true) || !graph_.launch(false, launches)) return launches();
  ++replayed_;
}

void MicroGraphs::run(const Values& now, const std::function<void()>& launches) {
  Kind& kind = kinds_[now.accumulate != 0];
  const bool again = kind.last == now;
  kind.last = now;
  const bool anew = kind.recorded != now;
  if ((anew && !again) || !kind.graph.launch(anew, launches)) return launches();
  kind.recorded = now;
  ++replayed_;
}

}  // namespace flagscale::train
