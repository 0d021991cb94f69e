#pragma once
// The model's weights as a GPU serves them: dense, all in one type, or matrices of eight or four bits an
// element (op/narrow_linear); uploaded once from the file's pages.

#include "engine/weights.h"

namespace flagscale::engine {

// The type of all weights and activations: what `options` ask for, else fp32 where the file's matrices are,
// else bf16. Throws Error{kUnsupported} naming a format that has no kernel there.
DType dense_type(const model::Decoder& decoder, const io::WeightSet& weights, const WeightOptions& options);

// Gives every weight and constant its place; a quantised head that is tied to the embedding becomes a weight
// of its own. Throws Error naming the tensor that is missing or has another shape.
void place_dense(Arena& arena, model::Decoder& decoder, const io::WeightSet& weights, DType dtype,
                 const WeightOptions& options);

// Fills them, and the constants, once the arena is bound to the device.
void upload_weights(model::Decoder& decoder, const io::WeightSet& weights, DeviceKind device,
                    const Team& team);

}  // namespace flagscale::engine
