#pragma once
// What is said of a job that failed, once nothing of it runs any more.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launch/diagnosis/ending.h"
#include "launch/job.h"

namespace flagscale::launch {

// One process's end.
struct ProcessEnd {
  std::string host;
  std::optional<Ending> ending;  // none: nothing is known of it
  std::vector<std::string> last_lines;
};

struct Verdict {
  size_t culprit = 0;  // place in the list
  std::string
      meaning;  // of its last lines, in one line for people; "" where they say no more than themselves
};

// Whose end was the first: by how all ended and what they said last, as `flagscale diagnose` ranks it. Where
// that tells nothing it is the one that was heard of first.
Verdict judge(const std::vector<ProcessEnd>& ends, size_t heard_first);

// FlagScale's <folder>/host_<rank>_<host>_diagnostic.txt for each of these whose output is on this machine.
// What cannot be written is warned of.
void write_diagnostic_files(const std::filesystem::path& folder, const std::vector<NodeTask>& nodes);

}  // namespace flagscale::launch
