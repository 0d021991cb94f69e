#pragma once
// Foreign engines: one file each in launch/adapter, that registers itself:
//
//   const Registration<Adapter> kVllm{"vllm", {"vLLM's own server", {"serve"}, &make}};

#include <filesystem>
#include <string>
#include <vector>

#include "base/registry.h"
#include "launch/experiment.h"
#include "launch/job.h"
#include "launch/placement.h"

namespace flagscale::launch {

struct Adapter {
  const char* what;                // one line, no capital, no full stop
  std::vector<std::string> tasks;  // experiment.task.type that it runs
  // Fills job.nodes, and what else is its own: name, task, engine, experiment, log, cmds and ssh_port are
  // there already, and `placement` has the hosts. Throws Error.
  void (*fill)(const Experiment& experiment, const Placement& placement, Job& job);
};

// The engine that runs a task: `given` where it is not empty, else experiment.task.engine, else "native",
// which is ours. "yaml" is the one that the YAML names.
std::string engine_of(const Experiment& experiment, const std::string& given);

// The registered name that `wanted` means for this configuration: "yaml" is the engine that the YAML names
// (experiment.task.backend for train and rl, else FlagScale's own scripts), another name is itself. Throws
// Error{kInvalidArgument} with the names there are, Error{kUnsupported} when it does not run this task.
std::string adapter_name(const Experiment& experiment, const std::string& wanted);

// An experiment's job without nodes: name, task, log, cmds, ssh_port and max_restarts, whatever engine runs
// it.
Job job_of(const Experiment& experiment, const std::string& engine);

// What a foreign engine would be started as. Nothing is written.
Job make_job(const Experiment& experiment, const std::string& engine);

// For adapters.

// <log>/host_<rank>_<host>, or <log>/host where hosts share no file system: FlagScale's names.
std::string host_name_of(const Experiment& experiment, int rank, const Host& host);

// One host's task with its environment, directory and output; PYTHONPATH gets `python_path`, folders of the
// checkout ("": itself), unless the configuration sets one.
NodeTask node_task(const Experiment& experiment, const Place& place, const Job& job,
                   const std::string& script, const std::vector<std::string>& python_path);

}  // namespace flagscale::launch
