#pragma once
// What is known about one key: type, default, range, meaning, class, and in a given configuration its value
// and where that came from.

#include <string>
#include <vector>

#include "config/compose.h"
#include "config/key_table.h"

namespace flagscale::config {

struct Step {
  std::string text;   // what is written there
  std::string where;  // "conf/train.yaml:12", "override 'a=1'"
};

struct Explanation {
  std::string path;              // "train.model.rotary_base"
  const KeyInfo* key = nullptr;  // null: not in the schema
  std::vector<Step> steps;       // empty: not set. Interpolations are followed one step each
  std::string value;             // of the last step; empty when it does not resolve
  std::string json;              // the same with its type
  std::string unresolved;        // why not
  bool configured = false;       // a configuration was asked: no steps means not set there
};

// key: a name or alias of the table ("rotary_base"), or a path in the configuration
// ("train.model.rotary_base"). sections: where the table's keys stand (key_table.h). Throws Error{kConfig}
// for a key that neither knows, naming the nearest.
Explanation explain(const KeyTable& table, const std::vector<std::string>& sections, const std::string& key,
                    const Composed* composed);

std::string to_text(const Explanation& explanation);
std::string to_json(const Explanation& explanation);

}  // namespace flagscale::config
