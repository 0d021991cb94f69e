#pragma once
// What Megatron-LM writes of a training into event files, with its tags and under its flags.

#include <string>

#include "device/device.h"
#include "train/log_line.h"
#include "train/tensorboard.h"

namespace flagscale::train {

struct EventKeys {
  bool no_loss_scale = false;
  bool world_size = false;
  int ranks = 1;
  bool timers = false;          // iteration-time and, with log_throughput, throughput, at each log line
  bool validation_ppl = false;  // perplexity beside the loss
  bool memory = false;          // of the allocator, which takes one block
};

class TrainingEvents {
 public:
  // The allocator must outlive this. Throws Error{kResource} where no file can be written in `dir`.
  TrainingEvents(const std::string& dir, EventKeys keys, const Allocator& allocator)
      : writer_(dir), keys_(keys), allocator_(allocator) {}

  void step(const StepReport& report);      // of one iteration alone
  void interval(const StepReport& report);  // what a log line says
  void validation(int64_t iteration, int64_t consumed_samples, double lm_loss);

 private:
  template <class Write>
  void attempt(Write write);  // a full disk costs the events, not the training
  void write_step(const StepReport& report);
  void both(const std::string& tag, double value, const StepReport& report);
  EventWriter writer_;
  bool failed_ = false;
  EventKeys keys_;
  const Allocator& allocator_;
};

}  // namespace flagscale::train
