#include "launch/runner_keys.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "config/experiment_keys.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using Names = std::vector<std::string>;

const Names kRunnerKeys{"type",
                        "backend",
                        "per_node_task",
                        "hostfile",
                        "ssh_port",
                        "master_addr",
                        "master_port",
                        "no_shared_fs",
                        "archive",
                        "ssh_arguments",
                        "connect_timeout",
                        "lost_timeout",
                        "elastic_wait",
                        "mpi_arguments",
                        "slurm",
                        "kubernetes",
                        "enable_monitoring",
                        "hang_detection_timeout",
                        "docker",
                        "deploy",
                        "cli_args",
                        "device_type",
                        "enable_gpu_health_check",
                        "ray_port",
                        "runtime_env",
                        "ray_dashboard_port",
                        "ray_include_dashboard"};
const Names kTorchrunOptions{"nnodes",
                             "nproc_per_node",
                             "rdzv_backend",
                             "rdzv_endpoint",
                             "rdzv_id",
                             "rdzv_conf",
                             "standalone",
                             "max_restarts",
                             "monitor_interval",
                             "start_method",
                             "role",
                             "module",
                             "no_python",
                             "run_path",
                             "log_dir",
                             "redirects",
                             "tee",
                             "local_ranks_filter",
                             "node_rank",
                             "local_addr",
                             "logs_specs",
                             "event_log_handler",
                             "numa_binding",
                             "signals_to_handle"};

std::string nearest_key(const std::string& name) {
  Names known = kTorchrunOptions;
  known.insert(known.end(), kRunnerKeys.begin(), kRunnerKeys.end());
  return nearest(name, known);
}

[[noreturn]] void refuse_runner_key(const Entry& entry) {
  const std::string near = nearest_key(entry.key.text), where = describe(entry.value->origin);
  fail(ErrorKind::kConfig, "{}{}experiment.runner.{} is no key of the runner and no option of torchrun; {}",
       where, where.empty() ? "" : ": ", entry.key.text,
       near.empty() ? fmt::format("there are {}", fmt::join(kRunnerKeys, ", "))
                    : "did you mean '" + near + "'?");
}

}  // namespace

bool is_torchruns(const Entry& entry) {
  if (is_among(kRunnerKeys, entry.key.text)) return false;
  if (is_among(kTorchrunOptions, entry.key.text)) return true;
  if (!nearest_key(entry.key.text).empty()) refuse_runner_key(entry);
  info("experiment.runner.{} is passed on to torchrun", entry.key.text);
  return true;
}

void check_runner_keys(const config::Node& runner, const Experiment& e) {
  for (const Entry& entry : runner.entries)
    if (!is_among(kRunnerKeys, entry.key.text) && !is_among(kTorchrunOptions, entry.key.text) &&
        !config::is_referred_to(*e.root(), e.hydra(), "experiment.runner." + entry.key.text))
      refuse_runner_key(entry);
}

}  // namespace flagscale::launch
