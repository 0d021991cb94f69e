#pragma once
// A global batch and its update as one CUDA graph: inputs of all micro-batches from pinned memory, their
// passes, the norm and the update, and what is read afterwards. Recorded when a step is like the one before
// it.

#include <memory>
#include <vector>

#include "data/train_data.h"
#include "device/cuda/cuda.h"
#include "device/cuda/stopwatch.h"
#include "tensor/tensor.h"
#include "train/micro_graphs.h"

namespace flagscale::train {

// Pinned memory of one micro-batch, beside the tensors that a program reads and writes.
class MicroSlot {
 public:
  struct Tensors {
    Tensor tokens, labels, mask, positions, cu_seqlens;
    Tensor order;  // op::LearntTokens'; undefined: none
    Tensor loss;
  };
  MicroSlot(Allocator& pinned, Tensors device);
  data::MicroBatch inputs() const;
  const Tensor& mask() const { return host_.mask; }
  const Tensor& order() const { return host_.order; }
  double loss() const;
  // Behind what this thread launched.
  void send() const;
  void fetch_loss() const;

 private:
  Tensors device_, host_;
};

class WholeStep {
 public:
  // Launches without waiting: as a graph, or, for other values than the last step's, by `launches`. Nothing
  // but values may change what they launch.
  void run(const std::vector<MicroGraphs::Values>& values, const std::function<void()>& launches);
  int64_t replayed() const { return replayed_; }
  // What the GPU took for the last one, by its own clock, once it has ended; 0: it was no graph.
  double gpu_seconds() const { return timed_ ? watch_->seconds() : 0; }

 private:
  std::vector<MicroGraphs::Values> last_, recorded_;
  std::unique_ptr<cuda::Stopwatch> watch_;  // in the graph
  KeptGraph graph_;
  bool timed_ = false;
  int64_t replayed_ = 0;
};

}  // namespace flagscale::train
