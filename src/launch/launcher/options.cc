#include "launch/launcher/options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "config/read_value.h"
#include "config/resolve.h"

namespace flagscale::launch {

namespace {

using config::Node;
using config::NodePtr;

// A key, and what it does with its value. A key that is null is left as it is.
using Keys = std::vector<std::pair<std::string, std::function<void(const Node&)>>>;

template <class T>
std::function<void(const Node&)> into(T& value) {
  return [&value](const Node& node) { config::read_value(node, value); };
}

std::function<void(const Node&)> seconds(std::chrono::seconds& value) {
  return [&value](const Node& node) {
    int64_t number = 0;
    config::read_value(node, number);
    if (number < 1 || number > 86400) fail(ErrorKind::kConfig, "is {}, expected 1 to 86400 seconds", number);
    value = std::chrono::seconds(number);
  };
}

std::function<void(const Node&)> path(std::filesystem::path& value) {
  return [&value](const Node& node) {
    std::string text;
    config::read_value(node, text);
    value = text;
  };
}

std::function<void(const Node&)> texts(std::map<std::string, std::string>& value) {
  return [&value](const Node& node) {
    if (node.kind != config::Kind::kMap) fail(ErrorKind::kConfig, "is no mapping");
    for (const config::Entry& entry : node.entries)
      config::read_value(*config::resolve(entry.value), value[entry.key.text]);
  };
}

// strict: each key of the mapping is one of `keys`.
void read_keys(const Node& map, const std::string& where, const Keys& keys, bool strict) {
  if (map.kind != config::Kind::kMap) fail(ErrorKind::kConfig, "{} is no mapping", where);
  std::vector<std::string> names;
  for (const auto& [name, read] : keys) names.push_back(name);
  for (const config::Entry& entry : map.entries) {
    const auto key = std::find(names.begin(), names.end(), entry.key.text);
    if (key == names.end() && !strict) continue;
    if (key == names.end()) {
      const std::string near = nearest(entry.key.text, names);
      fail(ErrorKind::kConfig, "there is no key {}.{}{}; it has {}", where, entry.key.text,
           near.empty() ? "" : ", did you mean '" + near + "'?", fmt::join(names, ", "));
    }
    const NodePtr value = config::resolve(entry.value);
    if (value->kind == config::Kind::kNull || value->is_missing()) continue;
    try {
      keys[static_cast<size_t>(key - names.begin())].second(*value);
    } catch (...) {
      rethrow_with(where + "." + entry.key.text);
    }
  }
}

void read_slurm(const Node& map, SlurmOptions& slurm) {
  read_keys(map, "experiment.runner.slurm",
            {{"partition", into(slurm.partition)},
             {"account", into(slurm.account)},
             {"qos", into(slurm.qos)},
             {"time", into(slurm.time)},
             {"gres", into(slurm.gres)},
             {"arguments", into(slurm.arguments)}},
            true);
}

void read_kubernetes(const Node& map, KubernetesOptions& kubernetes) {
  read_keys(map, "experiment.runner.kubernetes",
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
             {"volumes", texts(kubernetes.volumes)},
             {"node_selector", texts(kubernetes.node_selector)}},
            true);
}

}  // namespace

LauncherOptions read_launcher_options(const Node& runner) {
  LauncherOptions options;
  read_keys(runner, "experiment.runner",
            {{"type", into(options.type)},
             {"no_shared_fs", into(options.no_shared_fs)},
             {"archive", path(options.archive)},
             {"docker", into(options.container)},
             {"ssh_arguments", into(options.ssh_arguments)},
             {"connect_timeout", seconds(options.connect_time)},
             {"lost_timeout", seconds(options.lost_time)},
             {"mpi_arguments", into(options.mpi_arguments)},
             {"slurm", [&](const Node& node) { read_slurm(node, options.slurm); }},
             {"kubernetes", [&](const Node& node) { read_kubernetes(node, options.kubernetes); }}},
            false);
  return options;
}

}  // namespace flagscale::launch
