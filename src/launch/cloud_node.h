#pragma once
// experiment.runner.type=cloud: a platform starts the same command on every node, and each finds its own
// part.

#include <string>

#include "launch/experiment.h"

namespace flagscale::launch {

bool is_cloud(const Experiment& experiment);

struct CloudNode {
  int rank = 0, nodes = 1;
  int devices = 0;     // of this node; 0: not said
  std::string master;  // where the nodes meet; "" for a single one that does not say
  int port = 0;        // 0: not said
};

// From experiment.runner (node_rank, nnodes, master_addr, master_port), and where that says nothing from the
// platform's variables (rank_from_environment.h). Of a service, the node whose name or address is master_addr
// is the first, as FlagScale has it, and the others need no number of their own. Throws Error{kConfig} naming
// what is not set.
CloudNode cloud_node(const Experiment& experiment);

}  // namespace flagscale::launch
