#pragma once
// A batch system starts a job when it has the machines for it, whether or not this program still runs. One
// file a system, that registers itself. What it starts is this program again, which then finds its part in
// the environment.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.h"
#include "launch/launcher/options.h"

namespace flagscale::launch {

struct BatchJob {
  std::string name;           // experiment.exp_name
  std::string task;           // experiment.task.type
  std::filesystem::path log;  // the experiment's log folder, absolute
  int nodes = 1;
  int devices = 0;  // a node; 0: none are asked for
  int max_restarts = 0;
  int port = 0;                            // where a serving job answers; 0: it is none
  std::string engine;                      // what --engine said; "" where it was not given
  bool is_native = false;                  // this program itself does the task
  std::vector<std::string> command;        // `flagscale run …` as it was typed, the program first
  std::map<std::string, std::string> env;  // experiment.envs
  std::string configuration;               // composed and resolved, as YAML, for hosts without these files
};

struct BatchFile {
  std::filesystem::path path;
  std::string text;
};

struct BatchState {
  enum class Phase { kWaiting, kRunning, kEnded };
  Phase phase = Phase::kWaiting;
  int exit_code = 0;  // of kEnded; 128 + signal
  std::string text;   // in the system's words: why it waits, where it runs, how it ended
  bool operator==(const BatchState&) const = default;
};

class BatchSystem {
 public:
  virtual ~BatchSystem() = default;

  // What is handed in, in the job's log folder; a dry run shows it. Error{kConfig} for options that do not go
  // together.
  virtual std::vector<BatchFile> files(const BatchJob& job) const = 0;
  // Writes the files and hands them in; the system's name for the job. Error{kResource} with the system's own
  // reason.
  virtual std::string submit(const BatchJob& job) const = 0;
  virtual BatchState state(const std::string& id) const = 0;
  virtual void cancel(const std::string& id) const = 0;
  // What stays there of a job that has ended, and would be in the next one's way.
  virtual void clear(const std::string&) const {}
  // What the job has written since `place`, which is moved on. A job that has not begun has written nothing.
  virtual std::string output(const BatchJob& job, const std::string& id, size_t& place) const = 0;
};

struct BatchKind {
  const char* summary;
  std::unique_ptr<BatchSystem> (*make)(const LauncherOptions& options);
};

// "slurm" or "kubernetes"; null for a name that is no batch system's.
std::unique_ptr<BatchSystem> make_batch_system(const std::string& name, const LauncherOptions& options);

void write_batch_files(const std::vector<BatchFile>& files);  // folders too; Error{kResource}

// Shows a submitted job's states (through `state`, where they change) and output until it has ended, and
// returns its exit code. Ctrl-C cancels it and waits for its end, 130; or it only leaves it, 130 at once.
enum class OnCtrlC { kCancel, kLeave };
int follow(const BatchSystem& system, const BatchJob& job, const std::string& id,
           const std::function<void(const BatchState&)>& state,
           const std::function<void(std::string_view)>& output, OnCtrlC on_ctrl_c = OnCtrlC::kCancel);

}  // namespace flagscale::launch
