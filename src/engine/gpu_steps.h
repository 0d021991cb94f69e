#pragma once
// A runner's steps on a GPU: inputs go there in one copy, logits come back in another, and a step of single
// tokens that comes again is a graph. Two steps may be under way, each with inputs and drawn tokens of its
// own in the host's memory, so that the GPU goes from one to the next without the host.

#include <array>
#include <memory>
#include <span>

#include "device/cuda/cuda.h"
#include "device/cuda/mark.h"
#include "device/cuda/stopwatch.h"
#include "engine/step_graphs.h"
#include "plan/program.h"

namespace flagscale::engine {

class GpuSteps {
 public:
  // Tensors of a bound arena: what is read, and the rows that are wanted. All outlive this.
  struct Results {
    Tensor logits, drawn, embeddings;  // fp32, int32, fp32
  };
  GpuSteps(const Program& program, const Team& team, Tensor inputs, Results results, size_t most_graphs);
  ~GpuSteps();  // waits for what is under way
  GpuSteps(const GpuSteps&) = delete;
  GpuSteps& operator=(const GpuSteps&) = delete;

  // The host's copies, pinned; steps take turns, 0 and 1. Inputs are written before launch(), where the step
  // that had this turn before has ended; results are read after finish(). Logits and embeddings are those of
  // the step launched last that has any.
  int32_t* inputs(int turn) const;
  const int32_t* drawn(int turn) const { return static_cast<const int32_t*>(turn_of(turn).drawn.get()); }
  float* logits() const { return static_cast<float*>(host_logits_.get()); }
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
  // Behind the steps launched before.
  void launch(const Step& step, int turn);
  // Until it has ended. Throws Error{kDevice} where a kernel failed.
  void finish(int turn) const { turn_of(turn).done.wait(); }

  // Whether the GPU times each step that is a graph from now on. Graphs are recorded anew.
  void time_graphs(bool on);
  // That it took for the last step of this turn; 0 where that was no graph.
  double seconds(int turn) const;

 private:
  struct Turn {
    std::shared_ptr<void> inputs, drawn;
    cuda::Mark done;
    bool replayed = false;                   // its last step
    std::unique_ptr<cuda::Stopwatch> watch;  // null: not timed
  };
  const Turn& turn_of(int turn) const { return turns_[static_cast<size_t>(turn)]; }
  bool replay(const Step& step, int turn);  // as a graph, false where it is none
  void record(const Turn& turn) const;
  static void fetch(const std::shared_ptr<void>& to, const Tensor& rows, const RowRange& range);

  const Program& program_;
  const Team& team_;
  Tensor inputs_;
  Results results_;
  std::unique_ptr<Allocator> pinned_;
  std::array<Turn, 2> turns_;
  std::shared_ptr<void> host_logits_, host_embeddings_;
  StepGraphs graphs_;
};

}  // namespace flagscale::engine
