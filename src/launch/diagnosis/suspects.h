#pragma once
// What each rank says for itself, before they are compared: diagnose.h's first half.

#include <vector>

#include "launch/diagnosis/diagnose.h"

namespace flagscale::launch {

// One for each rank (or unknown speaker of a log) that says anything bad or ended badly.
std::vector<Suspect> find_suspects(const std::vector<RankLog>& logs, const std::vector<Ending>& endings);

// A rank that says nothing: where it is, and its last lines.
Suspect known_place(const std::vector<RankLog>& logs, int rank);

// The endings given, and those that logs report of other ranks.
std::vector<Ending> all_endings(const std::vector<RankLog>& logs, const std::vector<Ending>& given);

}  // namespace flagscale::launch
