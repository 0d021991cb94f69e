#pragma once
// Which types of what an optimizer reads and keeps go with the rest of a run.

#include <optional>
#include <string>

#include "train/optimizer/optimizer.h"

namespace flagscale::train {

// fp32 and bf16; nothing where it is another.
std::optional<DType> state_type(const std::string& name);

// The run that the types are for.
struct StateTypesUse {
  DType compute = DType::kF32;
  bool adapter = false;
  double offload = 0;
  int ranks = 1;
};

// Throws Error{kUnsupported} naming the key where a type is not served there.
void require_state_types(const OptimizerSpec& optimizer, const StateTypesUse& use);

}  // namespace flagscale::train
