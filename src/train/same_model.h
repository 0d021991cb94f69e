#pragma once
// Whether a checkpoint is of the model that a run describes. Tensors do not tell: with fewer layers, tied
// embeddings or other heads over the same width each one that is asked for is there, and the model is
// another.

#include "io/checkpoint.h"
#include "model/decoder/config.h"

namespace flagscale::train {

// Throws Error{kInvalidArgument} naming each key that says otherwise, with both values. Warns of what may be
// changed on purpose, as Megatron lets it be: the norms' epsilon and the rotary frequencies.
void require_same_model(const io::Checkpoint& checkpoint, const model::DecoderConfig& model);

}  // namespace flagscale::train
