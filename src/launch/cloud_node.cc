#include "launch/cloud_node.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>

#include "base/error.h"
#include "launch/launcher/own_names.h"
#include "launch/launcher/rank_from_environment.h"
#include "launch/placement.h"

namespace flagscale::launch {

namespace {

constexpr int kCloudPort = 29500;  // as torchrun's; a port that is free here means nothing elsewhere

// "leader-0.group.default" is this machine where its host name is leader-0.
bool is_own_name(const std::string& name) {
  const std::set<std::string> own = own_names();
  if (own.contains(name)) return true;
  const bool address = name.empty() || name.find(':') != std::string::npos ||
                       std::isdigit(static_cast<unsigned char>(name[0])) != 0;
  return !address && own.contains(name.substr(0, name.find('.')));
}

// FlagScale's cloud runner reads it without AIRS_SWITCH too.
int devices_said() {
  const char* text = std::getenv("AIRS_ACCELERATOR_NUM");
  return text ? std::max(std::atoi(text), 0) : 0;
}

int cloud_rank_of(const Experiment& e, const CloudNode& node, const std::optional<RankInEnvironment>& found) {
  if (e.value("experiment.runner.node_rank"))
    return static_cast<int>(e.number("experiment.runner.node_rank", 0));
  if (found) return found->rank;
  if (node.nodes == 1) return 0;
  if (e.task() == "serve") return is_own_name(node.master) ? 0 : 1;
  fail(ErrorKind::kConfig,
       "required value experiment.runner.node_rank is not set: which of the {} nodes this is, from 0",
       node.nodes);
}

}  // namespace

bool is_cloud(const Experiment& e) { return e.text("experiment.runner.type", "ssh") == "cloud"; }

CloudNode cloud_node(const Experiment& e) {
  std::optional<RankInEnvironment> found = rank_from_environment();
  if (found && !found->whole_host) found.reset();  // ranks of a launcher's, not nodes
  CloudNode node;
  node.nodes = static_cast<int>(least_nodes(e, found ? found->world_size : 1));
  node.devices = found && found->devices > 0 ? found->devices : devices_said();
  node.master = e.text("experiment.runner.master_addr", found ? found->master_addr : "");
  if (node.nodes > 1 && node.master.empty())
    fail(ErrorKind::kConfig, "required value experiment.runner.master_addr is not set: {} nodes meet there",
         node.nodes);
  node.rank = cloud_rank_of(e, node, found);
  if (node.rank >= node.nodes)
    fail(ErrorKind::kConfig, "{} is {}, expected one of 0 to {}", e.place("experiment.runner.node_rank"),
         node.rank, node.nodes - 1);
  if (found && found->master_port != 0) node.port = found->master_port;
  if (node.port == 0 && node.nodes > 1) node.port = kCloudPort;
  return node;
}

}  // namespace flagscale::launch
