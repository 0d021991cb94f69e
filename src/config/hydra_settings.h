#pragma once
// Hydra's own settings, the node `hydra` that a configuration may change: what it knows is checked, and only
// hydra.run.dir is used. Groups under hydra/ choose launchers and log formats; the names are checked too.

#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

NodePtr hydra_settings();  // with Hydra's defaults, as far as they matter

// Merges a file's `hydra` node. Throws Error{kConfig} naming a key that Hydra does not have.
void merge_hydra_settings(Node& settings, const Node& src);

// For an override of a key below `hydra.`. value: null for a deletion. add: it has + before it. Throws
// Error{kConfig}.
void check_hydra_override(const std::string& path, const Node* value, bool add);

bool is_hydra_group(const std::string& group);  // "hydra/launcher"
const std::vector<std::string>& hydra_options(const std::string& group);

}  // namespace flagscale::config
