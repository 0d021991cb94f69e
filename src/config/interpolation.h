#pragma once
// OmegaConf's interpolation grammar: "${a.b}", "${.x}", "${oc.env:VAR,default}", "a_${b}_c", nested and
// quoted. Only the syntax; resolve.h gives values.

#include <memory>
#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

struct Interpolation;

// A stretch of text, or an interpolation in its place.
struct Piece {
  std::string text;
  std::shared_ptr<Interpolation> interpolation;
};
using Pieces = std::vector<Piece>;

struct Element {
  enum class Kind { kValue, kText, kList, kMap };
  Kind kind = Kind::kValue;
  NodePtr value;               // kValue: one literal
  Pieces pieces;               // kText: concatenated; a lone interpolation keeps its type
  std::vector<Element> items;  // kList; kMap: values
  std::vector<NodePtr> keys;   // kMap
};

struct Interpolation {
  std::vector<Piece> path;      // a node's: keys, dots and brackets in order; empty for a resolver
  std::vector<Piece> resolver;  // a resolver's name, dots included
  std::vector<Element> arguments;
};

// A configuration value that holds "${". Throws Error{kConfig} saying what is wrong in it.
Pieces parse_interpolation(const std::string& text);

// oc.decode's argument: one literal, list or mapping.
Element parse_element(const std::string& text);

}  // namespace flagscale::config
