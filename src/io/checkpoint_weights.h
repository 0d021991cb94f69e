#pragma once
#include <memory>
#include <string>

#include "io/checkpoint.h"
#include "io/weights.h"

namespace flagscale::io {
// The weights of a checkpoint (the tensors without a role) as a model loads them; checksums are verified on
// first use.
std::unique_ptr<WeightSet> open_checkpoint_weights(const std::string& path);
}  // namespace flagscale::io
