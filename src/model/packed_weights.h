#pragma once
// A model's matrices packed (op/packed_linear) from files: what serving multiplies, and a frozen base in
// training.

#include <optional>

#include "base/parallel.h"
#include "io/weights.h"
#include "nn/parameter.h"

namespace flagscale::model {

// The format that holds a tensor as its file has it: bf16, f16, GGUF's blocks; fp32 for everything else.
op::Packing natural_packing(const io::TensorInfo& info);

// Gives parameter.packed its segments, without memory. packing: of every matrix; none: as the file has each,
// so that a fused weight whose parts the file stores in different formats becomes segments. With 4 bits
// embedding and head take 8, as is usual: they matter most; a `precise` parameter is never quantised.
// Experts' rows lie in the same formats, expert by expert. weights: null where packing is given and shapes
// are checked later. Throws Error naming the tensor that is missing or has another shape.
void declare_packed(nn::Parameter& parameter, const io::WeightSet* weights,
                    std::optional<op::Packing> packing);

// Fills the segments, whose memory exists.
void load_packed(const nn::Parameter& parameter, const io::WeightSet& weights, const Team& team);

}  // namespace flagscale::model
