#include "launch/launcher/batch_job.h"

#include "base/error.h"
#include "config/show.h"
#include "launch/adapter.h"
#include "launch/launcher/slurm_allocation.h"
#include "launch/placement.h"

namespace flagscale::launch {

namespace {

using config::Kind;
using config::NodePtr;

// experiment.envs that hold everywhere; those of a type or a host are looked up there.
std::map<std::string, std::string> common_environment(const Experiment& experiment) {
  std::map<std::string, std::string> env;
  const NodePtr envs = experiment.map("experiment.envs");
  for (const config::Entry& entry : envs->entries)
    if (!entry.value->is_container() && entry.value->kind != Kind::kNull)
      env[entry.key.text] = python_str(*entry.value);
  return env;
}

}  // namespace

bool is_submitted(const Experiment& experiment) {
  const std::string type = experiment.text("experiment.runner.type", "ssh");
  return type == "kubernetes" || (type == "slurm" && !allocated_hosts());
}

BatchJob batch_job(const Experiment& experiment, const std::string& engine,
                   std::vector<std::string> command) {
  BatchJob job;
  job.name = experiment.text("experiment.exp_name", "experiment");
  job.task = experiment.task();
  job.log = experiment.directory() / (job.task == "train" || job.task == "rl" ? "logs" : job.task + "_logs");
  job.nodes = static_cast<int>(least_nodes(experiment, 1));
  job.devices = static_cast<int>(experiment.number("experiment.runner.nproc_per_node", 0));
  job.max_restarts = static_cast<int>(experiment.number("experiment.runner.max_restarts", 0));
  if (const NodePtr entries = experiment.value("serve"); entries && entries->kind == Kind::kList)
    job.port = service_port(experiment);
  job.engine = engine;
  job.is_native = engine_of(experiment, engine) == "native";
  job.command = std::move(command);
  job.env = common_environment(experiment);
  job.configuration = config::to_yaml(experiment.root());
  return job;
}

}  // namespace flagscale::launch
