#pragma once
// What ranks have shares of (use_distributed_optimizer), from rank 0's checkpoint and to it. All ranks call
// these. Piece by piece: no rank has more of it in memory than its share.

#include <memory>
#include <vector>

#include "comm/process_group.h"
#include "io/aside_file.h"
#include "io/checkpoint.h"
#include "train/step.h"

namespace flagscale::train {

// What the optimizer keeps, of rank 0's `checkpoint`.
void take_kept(comm::ProcessGroup& group, TrainStep& step, const io::Checkpoint* checkpoint);

// Ranks::gather_snapshot(); other ranks get nothing.
std::vector<io::TensorSlice> gather_snapshot(comm::ProcessGroup& group, const TrainStep& step, bool optimizer,
                                             const std::string& folder,
                                             std::unique_ptr<io::AsideFile>& aside);

// The norm of the master weights, with the bits of TrainStep::parameters_norm() of whole ones.
double shared_norm(comm::ProcessGroup& group, const TrainStep& step);

}  // namespace flagscale::train
