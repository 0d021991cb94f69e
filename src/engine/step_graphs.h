#pragma once
// A GPU's steps that come again, as graphs: a number of them, where the one that has not been launched for
// longest gives way, and none that the GPU has no memory for.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <tuple>

#include "base/error.h"
#include "device/cuda/cuda.h"

namespace flagscale::engine {

class StepGraphs {
 public:
  // What decides every launch of a step: tokens, context, whether any has an adapter, and where steps are
  // timed their turn.
  using Key = std::tuple<int64_t, int64_t, bool, int>;

  explicit StepGraphs(size_t most) : most_(most) {}

  // Launches the graph of `key`, which is what `launches` does. False where it is the caller's to do that:
  // the first time, when what kernels need is loaded, which a recording must not wait for, and where no
  // graph may be kept. At most two steps are under way: this one, and the one before it.
  bool replay(const Key& key, const std::function<void()>& launches);

  void clear();  // waits for what is under way
  size_t size() const;

 private:
  struct Entry {
    std::unique_ptr<cuda::Graph> graph;  // null: was run once
    uint64_t step = 0;                   // that had it last
  };
  void drop_oldest();
  void keep_fewer(const Error& error);

  size_t most_;
  uint64_t step_ = 0;
  bool has_told_ = false;
  std::map<Key, Entry> entries_;
};

}  // namespace flagscale::engine
