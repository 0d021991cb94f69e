#pragma once
// The functions of Hydra's override grammar: casts and sort give a value, the rest are sweeps.

#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

struct Argument {
  NodePtr value;
  bool sweep = false;        // several values at once; value is null
  std::string keyword = {};  // "value" in int(value=1); empty: positional
};

// int, float, str, bool, sort, shuffle; choice, range, interval, tag, glob. Throws Error{kInvalidArgument}
// for an unknown name or arguments that do not fit.
Argument call_function(const std::string& name, const std::vector<Argument>& arguments);

}  // namespace flagscale::config
