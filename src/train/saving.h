#pragma once
// Between a TrainStep's buckets and checkpoints.

#include "io/checkpoint.h"
#include "model/peft.h"
#include "train/options.h"
#include "train/step.h"

namespace flagscale::train {

// Where a run stands, beside tensors.
struct Progression {
  int64_t iteration = 0, consumed_samples = 0, skipped_samples = 0;
  int64_t schedule_samples = 0;  // what the learning rate has seen: skipped iterations do not count
  int64_t updates = 0;           // the optimizer's step count: updates that were applied
  double last_loss = 0;          // of the last accepted iteration, for spike detection; 0: none yet
  int64_t skipped_iterations = 0, nan_iterations = 0;
};

// All that decides which samples come when, as text: a run that goes on with another would repeat some and
// leave others out. Reads the first few.
std::string data_order(const TrainOptions& options, const data::SampleSource& samples);

// Slices of the live buckets: weights and, unless no_save_optim, what the optimizer keeps. Of a GPU's
// `copied`, or read when their turn comes.
std::vector<io::TensorSlice> snapshot(const TrainStep& step, bool optimizer, bool copied);
io::TrainingState training_state(const TrainOptions& options, const TrainStep& step,
                                 const Progression& progression, const std::string& order);

// Saved tensors as a run wants them: fp32 and bf16 stand for one another.
class SavedTensors {
 public:
  explicit SavedTensors(const io::Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // The whole of one, mapped or in memory until the next call. Throws Error{kCorrupt, kInvalidArgument} where
  // it is not there, or another.
  std::span<const std::byte> bytes(const std::string& name, DType dtype, const std::vector<int64_t>& shape);
  void read(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
            std::span<std::byte> out);
  // Tells of fp32 numbers that were rounded to bf16. The other way is exact.
  void warn_if_rounded() const;

 private:
  void require(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const;

  const io::Checkpoint& checkpoint_;
  std::vector<std::byte> room_, converted_;
  std::string rounded_;  // the first of them
};

// Starts the adapter from one that PEFT or a run saved. Throws Error{kInvalidArgument} where its projections,
// rank or scale are not those of the step's.
void load_adapter(const model::PeftAdapter& files, const std::string& folder, TrainStep& step);

// Loads weights, and the optimizer's state and progression unless `finetune` (or no_load_optim for the
// former); where ranks have shares of that state it is left to take_kept(). Throws Error{kInvalidArgument}
// where the state is another optimizer's. Warns on stderr where thread count, instruction set or the order of
// samples differ from the saved run's: then the continuation is not bit-exact. order: data_order() of this
// run.
Progression restore(const io::Checkpoint& checkpoint, const TrainOptions& options, TrainStep& step,
                    const std::string& order);

}  // namespace flagscale::train
