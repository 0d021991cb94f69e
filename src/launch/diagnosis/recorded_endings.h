#pragma once
// How a run's nodes ended, by the events that its launcher recorded (launch/record).

#include <filesystem>
#include <vector>

#include "launch/diagnosis/ending.h"

namespace flagscale::launch {

// Of the last run's last start, a node each; what ended after another one had failed, or after the user
// stopped the run, ended by us. None without <exp_dir>/records/events.jsonl; lines of it that are damaged are
// passed over.
std::vector<Ending> recorded_endings(const std::filesystem::path& experiment);

}  // namespace flagscale::launch
