#include "launch/adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/nearest.h"
#include "launch/runner_keys.h"

namespace flagscale::launch {
namespace {

namespace fs = std::filesystem;

// FlagScale's folders of logs. They lie in the experiment's own, but training's may be elsewhere.
fs::path log_of(const Experiment& e, const std::string& task) {
  if (task != "train" && task != "rl") return e.directory() / (task + "_logs");
  const std::string given =
      e.text(task == "train" ? "train.system.logging.log_dir" : "system.logging.log_dir");
  return given.empty() ? e.directory() / "logs" : absolute_path(given);
}

std::string engine_of_yaml(const Experiment& e) {
  const std::string task = e.task();
  if (task != "train" && task != "rl") return "scripts";
  return e.text("experiment.task.backend", task == "train" ? "megatron" : "verl");
}

}  // namespace

std::string engine_of(const Experiment& e, const std::string& given) {
  const std::string engine = given.empty() ? e.text("experiment.task.engine", "native") : given;
  return engine == "yaml" && e.text("experiment.task.backend") == "native" ? "native" : engine;
}

std::string adapter_name(const Experiment& e, const std::string& wanted) {
  const std::string name = wanted == "yaml" ? engine_of_yaml(e) : wanted;
  const auto& registry = Registry<Adapter>::instance();
  const Adapter* adapter = registry.find(name);
  if (adapter == nullptr) {
    const std::string near = nearest(name, registry.names());
    const std::string source = wanted == "yaml"
                                   ? "experiment.task.backend (" + e.place("experiment.task.backend") + ")"
                                   : "the engine";
    fail(ErrorKind::kInvalidArgument, "{} is '{}', which is none of native, yaml, {}{}", source, name,
         fmt::join(registry.names(), ", "), near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  const std::string task = e.task();
  if (std::find(adapter->tasks.begin(), adapter->tasks.end(), task) == adapter->tasks.end())
    fail(ErrorKind::kUnsupported, "engine {} ({}) runs {} tasks, and experiment.task.type is {}", name,
         adapter->what, fmt::join(adapter->tasks, ", "), task);
  return name;
}

std::string host_name_of(const Experiment& e, int rank, const Host& host) {
  return e.flag("experiment.runner.no_shared_fs") ? "host" : fmt::format("host_{}_{}", rank, host.name);
}

NodeTask node_task(const Experiment& e, const Place& place, const Job& job, const std::string& script,
                   const std::vector<std::string>& python_path) {
  NodeTask task;
  task.rank = place.rank;
  task.host = place.host;
  task.output = job.log / (host_name_of(e, place.rank, place.host) + ".output");
  task.command.env = place.env;
  const config::NodePtr build = place.settings->find({"build_dir"});
  task.command.directory = build ? absolute_path(python_str(*build)) : e.checkout(script);
  std::string path;
  for (const std::string& folder : python_path) {
    const fs::path whole = folder.empty() ? task.command.directory : task.command.directory / folder;
    path += (path.empty() ? "" : ":") + whole.string();
  }
  const bool mine = place.host.is_here() && job.container.empty();
  if (const char* inherited = std::getenv("PYTHONPATH"); inherited && *inherited && mine)
    path += ":" + std::string(inherited);
  if (!path.empty()) task.command.env.emplace("PYTHONPATH", path);
  return task;
}

Job job_of(const Experiment& e, const std::string& engine) {
  Job job;
  job.engine = engine;
  job.task = e.task();
  job.experiment = e.directory();
  job.name = e.text("experiment.exp_name", job.experiment.filename().string());
  job.log = log_of(e, job.task);
  if (e.text("experiment.runner.type", "ssh") != "cloud")  // there a node runs where it was started
    job.container = e.text("experiment.runner.docker");
  job.before_start = e.text("experiment.cmds.before_start");
  job.after_stop = e.text("experiment.cmds.after_stop");
  job.no_shared_fs = e.flag("experiment.runner.no_shared_fs");
  job.ssh_port = static_cast<int>(e.number("experiment.runner.ssh_port", 22, 1));
  job.max_restarts = static_cast<int>(e.number("experiment.runner.max_restarts", 0));
  job.folders = {job.log, job.log / "pids"};
  return job;
}

Job make_job(const Experiment& e, const std::string& engine) {
  Job job = job_of(e, adapter_name(e, engine));
  job.scripts = true;
  Registry<Adapter>::instance()
      .find(job.engine)
      ->fill(e, placement_of(e, devices_here().value_or(DevicesHere{})), job);
  if (!job.mends_itself) check_runner_keys(*e.map("experiment.runner"), e);
  return job;
}

}  // namespace flagscale::launch
