#pragma once
// What is kept of an experiment's runs, in <exp_dir>/records: runs.sqlite (a row a run, a rank, a metric) and
// events.jsonl, to which a line is added for whatever happens. One process writes: the run's launcher.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "launch/agent/process.h"
#include "launch/job.h"
#include "launch/record/run_state.h"

namespace flagscale::launch {

// Where a run comes from, beside its job.
struct RunOrigin {
  std::string config;      // resolved, as YAML
  std::string provenance;  // one JSON object: dotted path to "file:line" or the override
  std::vector<std::string> command_line;
};

class RunRecord {
 public:
  // Throws Error{kResource} where the folder cannot be written; later losses (a full disk) are warned of once
  // and end nothing. A run that a killed launcher left unfinished becomes a failed one.
  RunRecord(const Job& job, const RunOrigin& origin);
  ~RunRecord();

  int64_t id() const;
  // Those that start now, where they are others than before.
  void ranks(const std::vector<NodeTask>& nodes);
  void agent(int rank, const ProcessId& agent, const std::string& host);
  void started(int rank, const ProcessId& process, const std::string& cgroup);
  void exited(int rank, const ExitStatus& status, bool by_us);  // by_us: as another one had failed
  void progress(int rank, const std::string& phase, int64_t iteration);
  // What a rank measured of its work: a value that is no number is kept as NULL.
  void metrics(int rank, int64_t iteration, const std::map<std::string, double>& values);
  void culprit(const std::string& what);
  void restarts(int count);
  void state(RunState state);
  void finish(RunState state, int exit_code);
  // Of one that was killed at its user's word, and can no longer say so itself.
  static void stopped(const std::filesystem::path& experiment, int64_t run, int exit_code);
  // Anything else worth a line.
  void event(const std::string& kind, int rank, const std::string& text);

 private:
  struct Files;
  static std::unique_ptr<Files> open_files(const std::filesystem::path& folder);
  std::unique_ptr<Files> files_;
};

std::filesystem::path records_folder(const std::filesystem::path& experiment);

}  // namespace flagscale::launch
