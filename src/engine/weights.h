#pragma once
// The model's weights as serving holds them: matrices packed (op/packed_linear), everything else dense in fp32.

#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "plan/program.h"

namespace flagscale::engine {

// Gives every weight and constant of the model its place; matrices in `dtype` (fp32 or bf16).
void place_weights(Arena& arena, model::Decoder& decoder, DType dtype);

// Fills placed and bound weights from the file, and the constants. Throws Error naming the tensor that is missing or
// has another shape.
void load_weights(model::Decoder& decoder, const io::WeightSet& weights);

}  // namespace flagscale::engine
