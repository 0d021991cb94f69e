#pragma once
// Ranks as threads of one process: every layout can be tested on any machine.

#include <chrono>
#include <memory>
#include <vector>

#include "comm/process_group.h"

namespace flagscale::comm {

// One group a rank, each for one thread. A rank that does not come within `deadline` is an error.
std::vector<std::unique_ptr<ProcessGroup>> make_local_groups(
    int size, std::chrono::duration<double> deadline = std::chrono::minutes(10));

}  // namespace flagscale::comm
