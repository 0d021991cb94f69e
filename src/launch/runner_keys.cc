#include "launch/runner_keys.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"

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

bool is_among(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void refuse_if_near(const Entry& entry) {
  Names known = kTorchrunOptions;
  known.insert(known.end(), kRunnerKeys.begin(), kRunnerKeys.end());
  const std::string near = nearest(entry.key.text, known), where = describe(entry.value->origin);
  if (!near.empty())
    fail(ErrorKind::kConfig,
         "{}{}experiment.runner.{} is no key of the runner and no option of torchrun; did you mean '{}'?",
         where, where.empty() ? "" : ": ", entry.key.text, near);
}

}  // namespace

bool is_torchruns(const Entry& entry) {
  if (is_among(kRunnerKeys, entry.key.text)) return false;
  if (is_among(kTorchrunOptions, entry.key.text)) return true;
  refuse_if_near(entry);
  info("experiment.runner.{} is passed on to torchrun", entry.key.text);
  return true;
}

void check_runner_keys(const config::Node& runner) {
  for (const Entry& entry : runner.entries) {
    if (is_among(kRunnerKeys, entry.key.text) || is_among(kTorchrunOptions, entry.key.text)) continue;
    refuse_if_near(entry);
    warn("experiment.runner.{} is read by nobody here", entry.key.text);
  }
}

}  // namespace flagscale::launch
