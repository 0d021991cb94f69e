#pragma once
// One training on several processes, whoever started them.

#include <memory>
#include <string>

#include "comm/process_group.h"
#include "train/options.h"

namespace flagscale {

// The ranks that torchrun, Slurm, Open MPI, Kubernetes or this program's launcher started, once all have met
// at MASTER_ADDR:MASTER_PORT; null where this process was started alone. job: the same text on each. From
// here on only rank 0 says what is no warning.
std::unique_ptr<comm::ProcessGroup> join_ranks(const std::string& job);

// What a rank takes of its host: a GPU of its own, or one that it shares where there are fewer than ranks; of
// the cores its share, where nothing else says how many threads.
void share_host(train::TrainOptions& options);

}  // namespace flagscale
