#pragma once
// Which rank failed first, and of what: from all ranks' logs and how their processes ended.

#include <string>
#include <vector>

#include "launch/diagnosis/ending.h"
#include "launch/diagnosis/log_scan.h"

namespace flagscale::launch {

struct RankLog {
  Speaker
      speaker;  // who wrote the lines that name no one; Speaker{}: several ranks, as in a log of a whole host
  std::string host;  // "": not known
  std::string name;  // the file, as people should read it
  const LogScan* scan = nullptr;
};

// What one rank has to say for itself.
struct Suspect {
  Speaker speaker;
  std::string host;
  const Pattern* pattern = nullptr;  // label, meaning and hint
  Role role = Role::kCause;
  bool survived = false;  // the job got on after it
  std::string log;        // "": by its ending alone
  int64_t line = 0;
  std::string text;
  std::optional<double> time;  // of the line
  std::optional<Ending> ending;
  std::vector<std::string> last_lines;
};

struct Diagnosis {
  bool failed = false;
  Suspect culprit;              // if failed
  std::vector<Suspect> others;  // one a rank, worst first; without a failure all that was noticed
  bool completed = false;       // some log says that the job is done
};

// A rank's own cause counts more than what it saw of others (Role). Between ranks with a cause of their own,
// the first to end is the culprit where all their ends have times, two seconds being the same time; else the
// clearer cause, then the earlier. Where all but one only complain of others, it is the silent one.
Diagnosis diagnose(const std::vector<RankLog>& logs, const std::vector<Ending>& endings);

}  // namespace flagscale::launch
