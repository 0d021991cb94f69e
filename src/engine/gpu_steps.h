#pragma once
// A runner's steps on a GPU: inputs go there in one copy, logits come back in another, and a step of single
// tokens that comes again is a graph, copies of inputs and drawn tokens included.

#include <map>
#include <memory>
#include <span>
#include <tuple>

#include "device/cuda/cuda.h"
#include "device/cuda/stopwatch.h"
#include "plan/program.h"

namespace flagscale::engine {

class GpuSteps {
 public:
  // Tensors of a bound arena: what is read, and the rows that are wanted. All outlive this.
  struct Results {
    Tensor logits, drawn, embeddings;  // fp32, int32, fp32
  };
  GpuSteps(const Program& program, const Team& team, Tensor inputs, Results results);

  // The host's copies, pinned: inputs are written there before run(), results read there after it.
  int32_t* inputs() const { return static_cast<int32_t*>(host_inputs_.get()); }
  float* logits() const { return static_cast<float*>(host_logits_.get()); }
  const int32_t* drawn() const { return static_cast<const int32_t*>(host_drawn_.get()); }
  float* embeddings() const { return static_cast<float*>(host_embeddings_.get()); }

  struct RowRange {
    int64_t first = 0, count = 0;
  };
  struct Step {
    int64_t input_elements = 0;        // of the inputs' front
    int64_t rows = 0;                  // what is drawn of each comes back,
    std::span<const RowRange> logits;  // of these the logits too
    int64_t embedded_rows = 0;
    int64_t tokens = 0, context = 0;  // what decides every launch of it, where `single`:
    bool adapted = false;             // these, and whether any token has an adapter
    bool single = false;              // a token and a row of each sequence, nothing else
  };
  void run(const Step& step);
  // Whether the GPU times each step that is a graph from now on. Graphs are recorded anew.
  void time_graphs(bool on);
  // That it took for the last step; 0 where that was no graph.
  double seconds() const { return watch_ && replayed_ ? watch_->seconds() : 0; }

 private:
  void compute(const Step& step);  // inputs there, kernels, what was drawn back
  void record(const Step& step);   // compute(), for a graph
  bool replay(const Step& step);   // the same as a graph, false where it is none yet
  static void fetch(const std::shared_ptr<void>& to, const Tensor& rows, const RowRange& range);

  const Program& program_;
  const Team& team_;
  Tensor inputs_;
  Results results_;
  std::unique_ptr<Allocator> pinned_;
  std::shared_ptr<void> host_inputs_, host_logits_, host_drawn_, host_embeddings_;
  std::map<std::tuple<int64_t, int64_t, bool>, std::unique_ptr<cuda::Graph>> graphs_;  // null: was run once
  bool replayed_ = false;                                                              // the last step
  std::unique_ptr<cuda::Stopwatch> watch_;                                             // null: not timed
};

}  // namespace flagscale::engine
