#include "launch/launcher/options.h"

#include "launch/known_keys.h"

namespace flagscale::launch {

using config::Node;

namespace {

void read_slurm(const Node& map, const std::string& path, SlurmOptions& slurm) {
  read_known_keys(map, path,
                  {{"partition", into(slurm.partition)},
                   {"account", into(slurm.account)},
                   {"qos", into(slurm.qos)},
                   {"time", into(slurm.time)},
                   {"gres", into(slurm.gres)},
                   {"arguments", into(slurm.arguments)}});
}

void read_kubernetes(const Node& map, const std::string& path, KubernetesOptions& kubernetes) {
  read_known_keys(map, path,
                  {{"image", into(kubernetes.image)},
                   {"program", into(kubernetes.program)},
                   {"namespace", into(kubernetes.space)},
                   {"kind", into(kubernetes.kind)},
                   {"device", into(kubernetes.device)},
                   {"resource", into(kubernetes.resource)},
                   {"cpu", into(kubernetes.cpu)},
                   {"memory", into(kubernetes.memory)},
                   {"shared_memory", into(kubernetes.shared_memory)},
                   {"service_account", into(kubernetes.service_account)},
                   {"volumes", into(kubernetes.volumes)},
                   {"node_selector", into(kubernetes.node_selector)}});
}

}  // namespace

LauncherOptions read_launcher_options(const Node& runner) {
  LauncherOptions options;
  read_known_keys(
      runner, "experiment.runner",
      {{"type", into(options.type)},
       {"no_shared_fs", into(options.no_shared_fs)},
       {"archive", into(options.archive)},
       {"docker", into(options.container)},
       {"ssh_arguments", into(options.ssh_arguments)},
       {"connect_timeout", into_seconds(options.connect_time)},
       {"lost_timeout", into_seconds(options.lost_time)},
       {"mpi_arguments", into(options.mpi_arguments)},
       {"slurm", [&](const Node& node, const std::string& path) { read_slurm(node, path, options.slurm); }},
       {"kubernetes",
        [&](const Node& node, const std::string& path) { read_kubernetes(node, path, options.kubernetes); }}},
      OtherKeys::kPassedOver);
  return options;
}

}  // namespace flagscale::launch
