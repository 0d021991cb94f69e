#include "launch/adapter/ray.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace flagscale::launch {

namespace {

std::string share_of(const Place& place) {
  return ray_resource(place.host.type, place.host.slots > 0 ? place.host.slots : place.processes);
}

}  // namespace

std::string ray_resource(const std::string& type, int count) {
  if (type == "gpu" || type.empty()) return fmt::format("--num-gpus={}", count);
  if (type == "cpu") return fmt::format("--num-cpus={}", count);
  return "--resources=" + nlohmann::json{{type, count}}.dump();
}

std::vector<std::string> ray_head(const Place& place, int port) {
  return {"ray", "start", "--head", fmt::format("--port={}", port), share_of(place)};
}

void join_ray(const Placement& placement, const Place& place, int port, NodeTask& task, Job& job) {
  const std::string head = fmt::format("{}:{}", placement.master, port);
  task.command.argv = {"ray", "start", "--address=" + head, share_of(place), "--block"};
  task.follows = true;  // it blocks for good, and a head that ends would make it fail
  if (placement.cloud) job.waits_for = head;
}

}  // namespace flagscale::launch
