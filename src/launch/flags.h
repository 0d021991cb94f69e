#pragma once
// A task's tree of values as the arguments that a foreign program reads, by FlagScale's rules.

#include <set>
#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::launch {

// What a mapping below the first level is.
enum class Nested {
  kSection,  // a heading for the eye: its keys are flags of their own, and its name is dropped
  kJson,     // the flag's value, as JSON
};

struct FlagStyle {
  Nested nested = Nested::kSection;
  bool dashes = true;                  // "_" in a key becomes "-"
  std::set<std::string> without = {};  // keys left out on every level, with underscores
};

// `tree`, a resolved mapping, as "--key value": true is the flag alone; false and null are nothing; a list is
// the flag and its items, each one argument; numbers are spelt as Python prints them (1e-05).
std::vector<std::string> flags_of(const config::Node& tree, const FlagStyle& style = {});

// Hydra's overrides, for verl: "a.b=value", and "+a.b=value" below `append_kargs`; config-path and
// config-name of the first level become --config-path=… and --config-name=…. A list of one item is written as
// that item, as FlagScale does, a longer one as [x,y]; null is null.
std::vector<std::string> overrides_of(const config::Node& tree);

// One line of JSON.
std::string json_line(const config::NodePtr& node);

}  // namespace flagscale::launch
