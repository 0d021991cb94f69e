#pragma once
// YAML text as a graph of nodes, before any typing, with anchors followed: what PyYAML composes. A node that
// several aliases name is one YamlNode.

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace flagscale::config {

struct YamlNode {
  enum class Kind { kScalar, kSequence, kMapping };
  Kind kind = Kind::kScalar;
  std::string tag;     // explicit, without "tag:yaml.org,2002:"; empty: none
  bool plain = false;  // an unquoted scalar
  std::string text;
  int line = 0;
  std::vector<YamlNode*> items;
  std::vector<std::pair<YamlNode*, YamlNode*>> pairs;
};

struct YamlGraph {
  YamlNode* root = nullptr;  // null: the text is empty
  std::vector<std::unique_ptr<YamlNode>> nodes;
};

// source: what errors call the text. Throws Error{kConfig} naming source and line.
YamlGraph parse_yaml_graph(const std::string& text, const std::string& source);

}  // namespace flagscale::config
