// FlagScale's own scripts for inference, serve and compress tasks: each reads a resolved configuration that
// is written beside the logs.

#include <fmt/format.h>

#include "base/error.h"
#include "config/edit.h"
#include "config/show.h"
#include "launch/adapter/ray.h"
#include "launch/adapter/serve_entry.h"
#include "launch/adapter/vllm.h"

namespace flagscale::launch {
namespace scripts {
namespace {

using config::Kind;
using config::Node;
using config::NodePtr;

const std::string kRouter = "flagscale/serve/run_disagg_xpyd_router.py";

std::string entrypoint_of(const Experiment& e) {
  std::string script = e.text("experiment.task.entrypoint");
  if (script.empty())
    fail(ErrorKind::kConfig,
         "required value experiment.task.entrypoint is not set: the script that the task runs");
  return script;
}

NodeTask python_task(const Experiment& e, const Place& place, const Job& job, const std::string& script,
                     std::vector<std::string> arguments) {
  NodeTask task = node_task(e, place, job, script, {""});
  task.command.argv = {"python", script};
  task.command.argv.insert(task.command.argv.end(), arguments.begin(), arguments.end());
  return task;
}

// One copy a host: nothing of it is distributed.
void fill_inference(const Experiment& e, const Placement& placement, Job& job) {
  const NodePtr inference = e.map("inference");
  if (inference->entries.empty())
    fail(ErrorKind::kConfig, "the configuration has no `inference`: nothing to do");
  inference->erase({"logging"});
  const std::string file = job.log / "scripts/inference.yaml", script = entrypoint_of(e);
  job.files.push_back({file, config::to_yaml(inference)});
  for (const Place& place : placement.places)
    job.nodes.push_back(python_task(e, place, job, script, {"--config-path=" + file}));
}

// The whole configuration, as Hydra keeps it.
void fill_compress(const Experiment& e, const Placement& placement, Job& job) {
  const std::filesystem::path file = e.hydra_folder() / ".hydra/config.yaml";
  const std::string script = entrypoint_of(e), save = e.text("compress.system.save_dir");
  e.map("compress");  // resolves
  job.files.push_back({file, config::to_yaml(e.root())});
  if (!save.empty()) job.folders.push_back(absolute_path(save));
  for (const Place& place : placement.places)
    job.nodes.push_back(python_task(e, place, job, script, {"--config-path=" + file.string()}));
}

// The configuration with `serve` as it is served; with several hosts, which they are. proxy: where the
// instances of a disaggregated service find its router; 0: it is none.
std::string serve_yaml(const Experiment& e, const NodePtr& serve, const Placement& placement, int proxy) {
  const NodePtr root = e.root()->copy();
  root->set({"serve"}, serve->copy());
  if (proxy > 0)
    config::update(*root, "experiment.runner.deploy.pd_proxy_port", Node::integer(proxy),
                   config::Update::kReplace, true);
  const NodePtr logging = root->find({"logging"});
  if (logging && logging->kind == Kind::kMap) {
    for (const char* key : {"log_dir", "scripts_dir", "pids_dir"}) logging->erase({key});
    if (logging->entries.empty()) root->erase({"logging"});
  }
  const NodePtr nodes = Node::list();
  for (const Place& place : placement.places) {
    const NodePtr pair = Node::list(), what = Node::map();
    what->set({"slots"}, Node::integer(place.host.slots));
    what->set({"type"}, Node::string(place.host.type.empty() ? "gpu" : place.host.type));
    pair->append(Node::string(place.host.name));
    pair->append(what);
    nodes->append(pair);
  }
  if (!e.text("experiment.runner.hostfile").empty()) root->set({"nodes"}, nodes);
  return config::to_yaml(root);
}

std::string first_engine(const NodePtr& serve) {
  const NodePtr first = serve->items.empty() ? nullptr : serve->items[0];
  const NodePtr engine = first && first->kind == Kind::kMap ? first->find({"engine"}) : nullptr;
  return engine && engine->kind != Kind::kNull ? python_str(*engine) : "";
}

std::string serve_script(const Experiment& e, const NodePtr& serve) {
  const std::string script = e.text("experiment.task.entrypoint");
  if (!script.empty() && !script.ends_with(".py"))
    fail(ErrorKind::kConfig, "{} is '{}', expected a Python file, or null for FlagScale's own server",
         e.place("experiment.task.entrypoint"), script);
  if (!script.empty()) return script;
  if (first_engine(serve).empty()) return "flagscale/serve/run_serve.py";
  if (e.flag("experiment.runner.deploy.prefill_decode_disaggregation")) return kRouter;
  return e.flag("experiment.runner.deploy.use_fs_serve", true) ? "flagscale/serve/run_fs_serve_vllm.py"
                                                               : "flagscale/serve/run_inference_engine.py";
}

// Ray's head on the first host: of the cluster that the others join, or of this host alone where FlagScale's
// server needs one.
void add_ray_head(const Experiment& e, const Placement& placement, const std::string& script,
                  NodeTask& task) {
  Command head = task.command;
  head.argv = {"ray", "start", "--head"};
  if (placement.nodes > 1) {
    head.argv = ray_head(placement.places[0], placement.port);
  } else if (!script.ends_with("run_fs_serve_vllm.py")) {
    return;
  } else if (const std::string type = e.text("experiment.runner.device_type"); !type.empty()) {
    const int64_t count = e.number("experiment.runner.nproc_per_node", 0, 1);
    if (count == 0)
      fail(ErrorKind::kConfig, "{} is {}: give experiment.runner.nproc_per_node, how many of them there are",
           e.place("experiment.runner.device_type"), type);
    head.argv.push_back(ray_resource(type, static_cast<int>(count)));
  }
  task.prepare.push_back(std::move(head));
}

void fill_serve(const Experiment& e, const Placement& placement, Job& job) {
  const NodePtr serve = serve_section(e, placement);
  const std::string script = serve_script(e, serve), file = job.log / "scripts/serve.yaml";
  const bool router = script == kRouter;
  const int proxy = router ? free_port() : 0;
  job.files.push_back({file, serve_yaml(e, serve, placement, proxy)});
  const bool own_script = !e.text("experiment.task.entrypoint").empty();
  if (!own_script && serve->kind == Kind::kList && !first_engine(serve).empty())
    job.port = served_entry(serve).port;
  for (const Place& place : placement.places) {
    NodeTask task =
        python_task(e, place, job, script, {"--config-path=" + file, "--log-dir=" + job.log.string()});
    if (place.rank > 0)
      join_ray(placement, place, placement.port, task, job);
    else if (!router)
      add_ray_head(e, placement, script, task);
    job.nodes.push_back(std::move(task));
    if (router) break;
  }
  if (router) add_disaggregated(e, placement, served_entry(serve), proxy, job);
}

void fill(const Experiment& e, const Placement& placement, Job& job) {
  if (job.task == "inference") return fill_inference(e, placement, job);
  if (job.task == "compress") return fill_compress(e, placement, job);
  fill_serve(e, placement, job);
}

const Registration<Adapter> kScripts{"scripts",
                                     {"FlagScale's own scripts", {"inference", "serve", "compress"}, &fill}};

}  // namespace
}  // namespace scripts
}  // namespace flagscale::launch
