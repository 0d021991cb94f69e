#include "launch/launcher/batch_job.h"

#include <charconv>

#include "base/error.h"
#include "config/show.h"
#include "launch/launcher/slurm_allocation.h"

namespace flagscale::launch {

namespace {

using config::Kind;
using config::NodePtr;

// "2", or "2:4", of which the least is asked for.
int least_nodes(const Experiment& experiment) {
  const std::string path = "experiment.runner.nnodes", text = experiment.text(path, "1");
  int nodes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), nodes);
  if (error != std::errc() || nodes < 1 || (*end != '\0' && *end != ':'))
    fail(ErrorKind::kConfig, "{} is '{}', expected a count of hosts, or MIN:MAX", experiment.place(path),
         text);
  return nodes;
}

// experiment.envs that hold everywhere; those of a type or a host are looked up there.
std::map<std::string, std::string> common_environment(const Experiment& experiment) {
  std::map<std::string, std::string> env;
  const NodePtr envs = experiment.map("experiment.envs");
  for (const config::Entry& entry : envs->entries)
    if (!entry.value->is_container() && entry.value->kind != Kind::kNull)
      env[entry.key.text] = python_str(*entry.value);
  return env;
}

// As FlagScale has it: deploy.port, else the first entry's engine_args.port, else 8000.
int service_port(const Experiment& experiment) {
  int64_t port = 8000;
  if (const NodePtr first = experiment.value("serve[0].engine_args.port"); first && first->kind == Kind::kInt)
    port = first->number;
  return static_cast<int>(experiment.number("experiment.runner.deploy.port", port, 1));
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
  job.nodes = least_nodes(experiment);
  job.devices = static_cast<int>(experiment.number("experiment.runner.nproc_per_node", 0));
  job.max_restarts = static_cast<int>(experiment.number("experiment.runner.max_restarts", 0));
  if (const NodePtr entries = experiment.value("serve"); entries && entries->kind == Kind::kList)
    job.port = service_port(experiment);
  job.engine = engine;
  job.command = std::move(command);
  job.env = common_environment(experiment);
  job.configuration = config::to_yaml(experiment.root());
  return job;
}

}  // namespace flagscale::launch
