#pragma once
// One override of the command line, in Hydra's grammar: key=value, +key=value, ++key=value, ~key, ~key=value,
// group=choice, group@package=choice. Values: numbers, bools, null, words, quoted strings, lists, mappings,
// casts (int(…), str(…), …). Sweeps (a,b; choice(…); range(…)) are understood and refused: one run has one
// value.

#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

struct Override {
  enum class Type { kChange, kAdd, kForceAdd, kDelete };
  Type type = Type::kChange;
  std::string key;  // a dotted path, or a group with slashes
  bool has_package = false;
  std::string package;
  NodePtr value;  // null pointer: a deletion without a value
  std::string text;

  // With its prefix and package, as Hydra names it: "~db@backup".
  std::string key_element() const;
};

// Throws Error{kInvalidArgument} quoting the text.
Override parse_override(const std::string& text);
std::vector<Override> parse_overrides(const std::vector<std::string>& texts);

}  // namespace flagscale::config
