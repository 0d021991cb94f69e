#pragma once
// Micro-batches on a GPU that come again are CUDA graphs: the GPU goes from kernel to kernel without the
// host. Only what a launch reads from the host's memory may change between two micro-batches of a program,
// so two with the same such values are the same launches.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "device/cuda/cuda.h"

namespace flagscale::train {

// A graph or, from when the GPU has no memory for it on, none: a run is slower then, and does not end.
class KeptGraph {
 public:
  // Records `launches` where there is none yet, or `anew`. False: nothing was launched.
  bool launch(bool anew, const std::function<void()>& launches);

 private:
  std::unique_ptr<cuda::Graph> graph_;
  bool without_ = false;
};

// Launches that read nothing of the host's memory which changes: their second run is recorded, and from then
// on they are one.
class ReplayedLaunches {
 public:
  void run(const std::function<void()>& launches);
  int64_t replayed() const { return replayed_; }

 private:
  bool met_ = false;
  KeptGraph graph_;
  int64_t replayed_ = 0;
};

class MicroGraphs {
 public:
  // What the launches of a micro-batch read on the host.
  struct Values {
    int64_t num_seqs, accumulate, dropout_row;  // the last 0 where nothing is dropped
    int64_t head_rows;                          // tokens whose logits are formed
    float grad_scale, router_scale;
    bool operator==(const Values&) const = default;
  };

  // Launches without waiting. The first with these values runs launch by launch, as it loads what it needs
  // and times products; one like the last of its kind (a step's first, or one that adds to gradients) is
  // recorded.
  void run(const Values& now, const std::function<void()>& launches);
  int64_t replayed() const { return replayed_; }  // how often a graph was launched

 private:
  struct Kind {
    std::optional<Values> last, recorded;
    KeptGraph graph;
  } kinds_[2];
  int64_t replayed_ = 0;
};

}  // namespace flagscale::train
