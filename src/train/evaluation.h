#pragma once
// The loss on samples that are not learnt from.

#include <cstdint>
#include <optional>

#include "data/train_data.h"
#include "train/options.h"
#include "train/ranks.h"
#include "train/step.h"

namespace flagscale::train {

// Mean loss of eval_iters global batches of `source`, of all ranks together; none when one was interrupted,
// which sets `stopped`, or when nothing of them is learnt. `before`: evaluations on the same samples that
// came before, whose samples are not taken again.
std::optional<double> evaluate(const TrainOptions& options, const data::SampleSource& source, Ranks& ranks,
                               TrainStep& step, int64_t iteration, int64_t before, bool& stopped);

}  // namespace flagscale::train
