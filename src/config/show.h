#pragma once
// A composed configuration as text, resolved.

#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

// A scalar, an empty container, or a value that does not resolve.
struct Leaf {
  std::string path;       // dotted, list positions in brackets
  NodePtr value;          // null: it does not resolve
  std::string exception;  // then OmegaConf's name for why
};
std::vector<Leaf> leaves(const NodePtr& root);

// One JSON object from dotted path to leaf, list positions in brackets; an empty mapping is {}, an empty list
// []. A leaf that does not resolve is {"error": "<OmegaConf's exception>"}. Infinity and NaN as Python writes
// them.
std::string to_flat_json(const NodePtr& root);

// Nested JSON; the same for leaves that do not resolve.
std::string to_json(const NodePtr& root);

// Block-style YAML that reads back as the same values. A leaf that does not resolve keeps its text, with the
// reason behind it.
std::string to_yaml(const NodePtr& root);

}  // namespace flagscale::config
