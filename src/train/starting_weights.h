#pragma once
// Which weights a run starts from, and says so.

#include <memory>
#include <string>

#include "train/options.h"
#include "train/saving.h"
#include "train/step.h"

namespace flagscale::train {

// An adapter is added to weights, which are not in its own checkpoints: sets init_from to what has them.
// Throws Error{kConfig} where nothing does.
void find_base(TrainOptions& options);

// Fills the step's memory from `load`, else from an adapter, `init_from` or random numbers, and `at` from a
// checkpoint, which is returned. Throws Error where what is asked for is not there.
std::unique_ptr<io::Checkpoint> start_weights(const TrainOptions& options, const std::string& order,
                                              TrainStep& step, Progression& at);

}  // namespace flagscale::train
