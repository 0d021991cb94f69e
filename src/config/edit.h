#pragma once
// Changes to a tree: OmegaConf's merge and update.

#include <string>

#include "config/node.h"

namespace flagscale::config {

// kOpen takes new keys, kStruct refuses them.
enum class Mode { kOpen, kStruct };

// Adds src to dest: mappings key by key, lists and scalars replaced, "???" changes nothing. A destination
// that is an interpolation to a container becomes a copy of it first. Throws Error{kConfig} for a list where
// a mapping is, and in kStruct for a new key.
void merge(Node& dest, const Node& src, Mode mode);

// Sets the node at a dotted path, making the mappings on the way. kMerge: a container into a container is
// merged.
enum class Update { kReplace, kMerge };
// add: new keys are allowed at the end of the path, and on the way.
void update(Node& root, const std::string& path, const NodePtr& value, Update how, bool add);

}  // namespace flagscale::config
