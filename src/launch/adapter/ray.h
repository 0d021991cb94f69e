#pragma once
// A Ray cluster over a job's hosts: its head on the first, where what uses it is started too.

#include <string>
#include <vector>

#include "launch/adapter.h"

namespace flagscale::launch {

// A Ray node's share of the cluster: --num-gpus, --num-cpus, or a resource of the type's own name.
std::string ray_resource(const std::string& type, int count);

// The command of the head, which returns once it runs in the background.
std::vector<std::string> ray_head(const Place& place, int port);

// Makes `task` a host's part of the cluster, until the head is gone. In a cloud, where nodes come up minutes
// apart, it waits for the head before it starts.
void join_ray(const Placement& placement, const Place& place, int port, NodeTask& task, Job& job);

}  // namespace flagscale::launch
