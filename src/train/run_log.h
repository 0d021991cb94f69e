#pragma once
// What a run tells of its iterations: Megatron's log lines, event files, metrics for whoever started it.

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "train/log_line.h"
#include "train/options.h"
#include "train/saving.h"
#include "train/step.h"
#include "train/training_events.h"

namespace flagscale::train {

class RunLog {
 public:
  using Clock = std::chrono::steady_clock;

  // What Megatron reports of an iteration: of a spike nothing, of another one that it skips the loss alone.
  struct Outcome {
    std::optional<double> loss, norm, zeros, params_norm;
    op::RouterLossValues router{};
  };

  // Options and step must outlive it. `ranks`: that share each batch, of which the first one tells.
  RunLog(const TrainOptions& options, TrainStep& step, int ranks, bool first)
      : options_(options), step_(step), ranks_(ranks), first_(first) {}

  // Throws Error{kResource} where no event file can be written. The allocator must outlive this.
  void open_events(const Allocator& allocator);
  void start(std::FILE* out);                           // and the clock of the first interval
  void pause(Clock::duration time) { start_ += time; }  // Megatron's timer stands still meanwhile

  // Of an iteration, before it is told of.
  void count_update(const Outcome& outcome);
  void count_skipped(bool not_finite) { ++skipped_, nan_ += not_finite; }
  bool is_told(int64_t iteration) const { return is_logged(iteration) || is_an_event(iteration); }

  // `iterations`: of the whole run. `seconds`: of this iteration alone, without evaluation and saves.
  void iteration(const Progression& at, int64_t iterations, int64_t batch, const Outcome& outcome,
                 double seconds);
  void validation(const std::string& prefix, double loss);
  void validation_event(const Progression& at, double loss);

 private:
  StepReport report(const Progression& at, int64_t iterations, int64_t batch, const Outcome& outcome) const;
  void interval(StepReport report, int64_t batch);
  void metrics(const StepReport& report, int64_t batch, double seconds) const;
  void print(const std::string& line);
  bool is_logged(int64_t iteration) const { return iteration % options_.log_interval == 0; }
  bool is_an_event(int64_t iteration) const {
    return !options_.tensorboard_dir.empty() && iteration % options_.tensorboard_log_interval == 0;
  }

  const TrainOptions& options_;
  TrainStep& step_;
  int ranks_;
  bool first_;
  std::unique_ptr<TrainingEvents> events_;
  std::FILE* out_ = nullptr;

  // Of the iterations since the last log line.
  double loss_ = 0;
  op::RouterLossValues router_{};
  int64_t losses_ = 0, iterations_ = 0, skipped_ = 0, nan_ = 0;
  Clock::time_point start_;
};

}  // namespace flagscale::train
