#pragma once
// A training run: data in, log lines, checkpoints and a trained model out. Bit-exact on resume at the same
// thread count and instruction set.

#include <cstdio>
#include <functional>
#include <memory>
#include <optional>

#include "comm/process_group.h"
#include "train/options.h"
#include "train/step.h"

namespace flagscale::train {

struct TrainResult {
  int64_t iteration = 0, consumed_samples = 0;
  std::optional<double> lm_loss;          // of the last iteration
  std::optional<double> validation_loss;  // of the last evaluation
  data::TokenCounts tokens;               // of this run's iterations
  std::string checkpoint;                 // folder of the last save; empty: none
  bool interrupted = false;
};

// How a step is planned for these options.
StepOptions step_options(const TrainOptions& options, int rank = 0, int ranks = 1);

class Trainer {
 public:
  // Validates, opens the data and plans. Throws Error before anything is allocated when memory does not
  // suffice. `group`: the ranks that share each global batch; null: this one alone. Rank 0 decides where to
  // start from, logs, evaluates with the others and saves; an error of one rank is told to the others.
  // begin: called once it fits, before anything is written.
  explicit Trainer(TrainOptions options, comm::ProcessGroup* group = nullptr,
                   const std::function<void()>& begin = nullptr);
  ~Trainer();

  // Runs to the end, or until Ctrl-C or SIGTERM: then saves (where `save` is set) and returns interrupted.
  // out: Megatron's log lines; progress goes to stderr.
  TrainResult run(std::FILE* out);

  const TrainStep& step() const;
  const TrainOptions& options() const;

 private:
  void tell_others(const std::function<void()>& work) const;

  struct Run;
  comm::ProcessGroup* group_;
  std::unique_ptr<Run> run_;
};

}  // namespace flagscale::train
