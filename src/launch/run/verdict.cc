#include "launch/run/verdict.h"

#include <algorithm>
#include <deque>

#include "base/error.h"
#include "base/log.h"
#include "launch/diagnosis/diagnose.h"
#include "launch/diagnosis/log_file.h"
#include "launch/diagnosis/report.h"
#include "launch/job_files.h"

namespace flagscale::launch {

namespace {

bool was_killed(const ProcessEnd& end) {
  return end.ending && end.ending->how != Ending::How::kExited && !end.ending->by_us;
}

// Each process is one rank, with that number.
std::optional<size_t> by_ranks(std::vector<RankLog> logs, const std::vector<ProcessEnd>& ends) {
  std::vector<Ending> endings;
  for (size_t i = 0; i < ends.size(); ++i) {
    logs[i].speaker.rank = static_cast<int>(i);
    if (!ends[i].ending) continue;
    endings.push_back(*ends[i].ending);
    endings.back().rank = static_cast<int>(i);
  }
  const Diagnosis diagnosis = diagnose(logs, endings);
  const Suspect& culprit = diagnosis.culprit;
  const auto rank = static_cast<size_t>(culprit.speaker.rank);
  if (!diagnosis.failed || culprit.role == Role::kConsequence || rank >= ends.size()) return {};
  return rank;
}

// Lines name ranks of their own, as torchrun's do: each process is several.
std::optional<size_t> by_lines(const std::vector<RankLog>& logs, const std::vector<ProcessEnd>& ends) {
  if (const auto killed = std::find_if(ends.begin(), ends.end(), was_killed); killed != ends.end())
    return killed - ends.begin();
  const Diagnosis diagnosis = diagnose(logs, {});
  for (size_t i = 0; diagnosis.failed && diagnosis.culprit.role != Role::kConsequence && i < logs.size(); ++i)
    if (logs[i].name == diagnosis.culprit.log) return i;
  return {};
}

}  // namespace

Verdict judge(const std::vector<ProcessEnd>& ends, size_t heard_first) {
  std::deque<LogScan> scans;  // logs point into it
  std::vector<RankLog> logs;
  bool marks = false;
  for (const ProcessEnd& end : ends) {
    LogScan& scan = scans.emplace_back(year_of({}));
    for (const std::string& line : end.last_lines) scan.feed(line + "\n");
    scan.flush();
    marks = marks || scan.has_marks();
    logs.push_back({{}, end.host, std::to_string(logs.size()), &scan});
  }
  const size_t culprit = (marks ? by_lines(logs, ends) : by_ranks(logs, ends)).value_or(heard_first);
  return {culprit, explain(ends.at(culprit).last_lines)};
}

void write_diagnostic_files(const std::filesystem::path& folder, const std::vector<NodeTask>& nodes) {
  try {
    for (const NodeTask& node : nodes) {
      std::error_code none;
      const auto output = output_here(node.output, node.rank, node.host.name);
      if (!std::filesystem::exists(output, none)) continue;
      LogFile log(output);
      log.read();
      log.end();
      write_diagnostic_file(folder, node.rank, node.host.name, output.filename(), log.scan());
    }
  } catch (const Error& error) {
    warn("{}", error.what());
  }
}

}  // namespace flagscale::launch
