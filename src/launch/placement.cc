#include "launch/placement.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "launch/cloud_node.h"
#include "launch/hostfile.h"
#include "launch/launcher/slurm_allocation.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;
using Environment = std::map<std::string, std::string>;

const std::string kRunner = "experiment.runner.";

struct NodeRange {
  int64_t least = 1, most = 1;
};

bool is_elastic(const Experiment& e) { return e.text(kRunner + "nnodes").find(':') != std::string::npos; }

// "2", or "2:4".
NodeRange nodes_wanted(const Experiment& e, int64_t otherwise) {
  const std::string path = kRunner + "nnodes", text = e.text(path);
  if (!is_elastic(e)) {
    const int64_t nodes = e.number(path, otherwise, 1);
    return {nodes, nodes};
  }
  NodeRange range{0, 0};
  char colon = 0, more = 0;
  std::istringstream in(text);
  if (!(in >> range.least >> colon >> range.most) || colon != ':' || in >> more || range.least < 1 ||
      range.most < range.least)
    fail(ErrorKind::kConfig, "{} is '{}', expected a count of hosts, or MIN:MAX", e.place(path), text);
  return range;
}

// A layer of experiment.envs. null takes a variable back.
void put(const Node& layer, const std::string& path, Environment& env) {
  for (const Entry& entry : layer.entries) {
    const std::string& key = entry.key.text;
    if (entry.value->is_container())
      fail(ErrorKind::kConfig, "{}: {}.{} must be one value, got {}", describe(entry.value->origin), path,
           key, config::name(entry.value->kind));
    if (entry.value->kind == Kind::kNull)
      env.erase(key);
    else
      env[key] = python_str(*entry.value);
  }
}

// Of what is for one host, the layers in order of precedence: for its device type, then for itself.
std::vector<NodePtr> layers_for(const Host& host, const NodePtr& by_type, const NodePtr& by_node) {
  std::vector<NodePtr> layers;
  for (const auto& [map, name] : {std::pair{by_type, host.type}, {by_node, host.name}}) {
    const NodePtr layer = map && map->kind == Kind::kMap && !name.empty() ? map->find({name}) : nullptr;
    if (layer && layer->kind == Kind::kMap) layers.push_back(layer);
  }
  return layers;
}

// How many devices a layer shows: CUDA_VISIBLE_DEVICES, MLU_VISIBLE_DEVICES and the like.
std::optional<int> visible_devices(const Node& layer) {
  for (const Entry& entry : layer.entries) {
    if (!entry.key.text.ends_with("_VISIBLE_DEVICES") || entry.value->kind == Kind::kNull) continue;
    std::istringstream in(python_str(*entry.value));
    int count = 0;
    for (std::string device; std::getline(in, device, ',');) count += device.empty() ? 0 : 1;
    if (count > 0) return count;
  }
  return std::nullopt;
}

using DevicesIfAny = std::optional<DevicesHere>;

// A machine without any, where processes have no device of their own: one, unless they are meant for
// processors, or a cloud's platform has counted what no profile may know.
int64_t one_without_devices(const Experiment& e, int64_t count) {
  if (count <= 1 || is_cloud(e) || e.text("train.system.distributed_backend") == "gloo") return count;
  warn(
      "{}: {} processes are asked for, but this machine has no device of a vendor in devices/*.yaml: 1 {}. "
      "Of "
      "another vendor's devices one more file there tells (devices/NAME.yaml); processes without devices "
      "talk by train.system.distributed_backend=gloo, and then all start",
      e.place(kRunner + "nproc_per_node"), count, e.planning() ? "would run here" : "runs");
  return e.planning() ? count : 1;
}

// One process a device: more would share them.
int64_t no_more_than(const DevicesIfAny& devices, const Experiment& e, int64_t count) {
  if (devices && devices->count == 0) return one_without_devices(e, count);
  if (!devices || count <= devices->count) return count;
  const std::string& tool = devices->profile.tool;
  warn("{} is {}, but this machine has {} {} devices{}: {} {}", e.place(kRunner + "nproc_per_node"), count,
       devices->count, devices->profile.name, tool.empty() ? "" : " (" + tool + " shows them)",
       devices->count, e.planning() ? "would run here" : "run");
  return e.planning() ? count : devices->count;
}

int processes_on(const Experiment& e, const Host& host, std::optional<int> visible,
                 const DevicesIfAny& devices) {
  const std::string path = kRunner + "nproc_per_node";
  int64_t count = e.number(path, 0, 1);
  std::string source = fmt::format("{} is {}", e.place(path), count);  // of the count
  const auto at_most = [&](int64_t limit, const std::string& why) {
    if (count > limit)
      warn("{}, but on {} {}: {} run{} there", source, host.name, why, limit, limit == 1 ? "s" : "");
    if (count == 0 || count > limit) count = limit, source = why;
  };
  if (host.slots > 0)
    at_most(host.slots, is_cloud(e) ? fmt::format("the platform counts {} devices", host.slots)
                                    : fmt::format("the hostfile has slots={}", host.slots));
  if (visible)
    at_most(*visible, fmt::format("the environment shows {} device{}", *visible, *visible == 1 ? "" : "s"));
  if (host.is_here()) count = no_more_than(devices, e, count);
  return static_cast<int>(std::max<int64_t>(count, 1));
}

Place place_of(const Experiment& e, const Host& host, int rank, const DevicesIfAny& devices) {
  const NodePtr envs = e.map("experiment.envs");
  const NodePtr by_type = envs->find({"device_type_specific"});
  std::vector<NodePtr> layers = layers_for(host, by_type, envs->find({"node_specific"}));
  for (const NodePtr& layer : layers_for(host, nullptr, envs->find({"nodes_envs"}))) layers.push_back(layer);
  for (const char* key : {"device_type_specific", "node_specific", "nodes_envs"}) envs->erase({key});
  Place place{rank, host, {}, 1, Node::map()};
  layers.insert(layers.begin(), envs);
  std::optional<int> visible;
  for (const NodePtr& layer : layers) {
    put(*layer, "experiment.envs", place.env);
    if (const auto count = visible_devices(*layer)) visible = count;
  }
  place.processes = processes_on(e, host, visible, devices);
  for (const NodePtr& layer : layers_for(host, e.map("device_type_specific"), e.map("node_specific")))
    for (const Entry& entry : layer->entries) place.settings->set(entry.key, entry.value->copy());
  return place;
}

struct NamedHosts {
  std::vector<Host> list;
  std::string but;        // where they come from, as an objection
  int64_t otherwise = 1;  // nnodes where it is not set
};

NamedHosts hosts_named(const Experiment& e) {
  NamedHosts hosts{{{"localhost", 0, ""}},
                   "there is no hostfile: this machine alone runs it. Give experiment.runner.hostfile=FILE"};
  const std::string hostfile = e.text(kRunner + "hostfile");
  if (auto allocated = e.text(kRunner + "type") == "slurm" ? allocated_hosts() : std::nullopt) {
    hosts.list = std::move(*allocated);
    hosts.but = fmt::format("the allocation has {} hosts: these run it", hosts.list.size());
  } else if (!hostfile.empty()) {
    hosts.list = read_hostfile(hostfile);
    hosts.but = fmt::format("{} names {}: these run it", hostfile, hosts.list.size());
  }
  hosts.otherwise = static_cast<int64_t>(hosts.list.size());
  return hosts;
}

// As FlagScale counts a cloud's node: by what the platform says, of the type that the configuration does.
Host cloud_host(const Experiment& e, const CloudNode& node) {
  return {"localhost", node.devices, e.task() == "serve" ? e.text(kRunner + "device_type", "gpu") : ""};
}

void set_meeting(const Experiment& e, std::string master, Placement& placement) {
  placement.master = std::move(master);
  if (placement.nodes > 1 && placement.master == "localhost")
    warn(
        "the nodes meet at 'localhost', where the others do not find it: name the first host by its address, "
        "or give experiment.runner.master_addr");
  if (const int given = given_port(e)) placement.port = given;
  if (placement.port == 0) placement.port = free_port();
}

}  // namespace

int64_t least_nodes(const Experiment& e, int64_t otherwise) { return nodes_wanted(e, otherwise).least; }

Hosts hosts_of(const Experiment& e) {
  const auto [list, but, otherwise] = hosts_named(e);
  Hosts hosts{list, ""};
  const auto wanted = static_cast<size_t>(nodes_wanted(e, otherwise).least);
  if (wanted > hosts.list.size())
    hosts.fewer = fmt::format("{} is {}, but {}", e.place(kRunner + "nnodes"), wanted, but);
  hosts.list.resize(std::min(hosts.list.size(), wanted));
  return hosts;
}

std::optional<ElasticHosts> elastic_hosts(const Experiment& e) {
  if (!is_elastic(e)) return {};
  const auto [list, but, otherwise] = hosts_named(e);
  const NodeRange range = nodes_wanted(e, otherwise);
  if (range.least > static_cast<int64_t>(list.size()))
    fail(ErrorKind::kConfig, "{} is {}, but {}", e.place(kRunner + "nnodes"), e.text(kRunner + "nnodes"),
         but);
  const auto most = std::min(range.most, static_cast<int64_t>(list.size()));
  return ElasticHosts{list, static_cast<int>(range.least), static_cast<int>(most)};
}

namespace {

// The port that is free where `wanted` is, or any that the system gives for 0; 0 where there is none.
int bound_port(int wanted) {
  const int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(wanted));
  socklen_t size = sizeof address;
  const bool bound = file >= 0 && bind(file, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     getsockname(file, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (file >= 0) close(file);
  return bound ? ntohs(address.sin_port) : 0;
}

// Where the ports begin that the system gives connections by itself.
int first_given_port() {
  int first = 32768;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first;
  return first;
}

}  // namespace

// Of those that no connection is given by itself: what begins before it is taken (srun, ssh) does not take
// it.
int free_port() {
  constexpr int kFirst = 20000, kTries = 200;
  const int end = first_given_port();
  std::random_device random;
  for (int i = 0; i < kTries && end > kFirst; ++i)
    if (const int port = bound_port(std::uniform_int_distribution<int>(kFirst, end - 1)(random))) return port;
  const int port = bound_port(0);
  if (port == 0)
    fail(ErrorKind::kResource, "this machine has no free port: give experiment.runner.master_port");
  return port;
}

int given_port(const Experiment& e) {
  const std::string path = kRunner + "master_port";
  const int64_t port = e.value(path) ? e.number(path, 0, 1) : 0;
  if (port > 65535) fail(ErrorKind::kConfig, "{} is {}, expected a port up to 65535", e.place(path), port);
  return static_cast<int>(port);
}

int service_port(const Experiment& e) {
  int64_t port = 8000;
  if (const NodePtr first = e.value("serve[0].engine_args.port"); first && first->kind == Kind::kInt)
    port = first->number;
  port = e.number(kRunner + "deploy.port", port, 1);
  return static_cast<int>(e.number(kRunner + "cli_args.port", port, 1));
}

Placement placement_on(const Experiment& e, const std::vector<Host>& hosts, const DevicesIfAny& devices) {
  Placement placement;
  for (const Host& host : hosts)
    placement.places.push_back(place_of(e, host, static_cast<int>(placement.places.size()), devices));
  placement.nodes = static_cast<int>(placement.places.size());
  const std::string& first = hosts[0].name;
  const bool is_named_first = !is_elastic(e) || first == hosts_named(e).list[0].name;
  set_meeting(e, is_named_first ? e.text(kRunner + "master_addr", first) : first, placement);
  return placement;
}

Placement placement_of(const Experiment& e, const DevicesIfAny& devices) {
  if (!is_cloud(e)) {
    const Hosts hosts = hosts_of(e);
    if (!hosts.fewer.empty()) warn("{}", hosts.fewer);
    return placement_on(e, hosts.list, devices);
  }
  const CloudNode node = cloud_node(e);
  Placement placement;
  placement.cloud = true;
  placement.nodes = node.nodes;
  placement.port = node.port;
  placement.places.push_back(place_of(e, cloud_host(e, node), node.rank, devices));
  set_meeting(e, node.master.empty() ? e.text(kRunner + "master_addr", "localhost") : node.master, placement);
  return placement;
}

}  // namespace flagscale::launch
