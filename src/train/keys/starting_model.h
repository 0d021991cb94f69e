#pragma once
// Training that starts from the weights of a model: its shape is the training's, and no key that was given
// may ask for another.

#include <optional>

#include "model/decoder/config.h"
#include "train/keys/train_config.h"

namespace flagscale::train {

// What the keys name to start from: with finetune the whole model in `load`, else pretrained_checkpoint.
// Nothing where neither is there (yet). Throws Error for what is there and is no model.
std::optional<StartingModel> starting_model(const CheckpointKeys& keys);

// The shape that is trained, of a config that has a start. Throws Error{kConfig} naming every given key that
// contradicts it, with both values and where the key stands. No contradictions: keys that were not given, a
// vocab_size below the rows that the model has (it is padded) and another max_position_embeddings (rotary
// positions have no weights; the longest of the two and seq_length counts).
model::DecoderConfig starting_shape(const TrainConfig& config);

// The width of a feed-forward layer by the keys, whose hidden_size may be the model's.
int64_t ffn_width(const ModelKeys& keys);
// Tokens that one sees by window_size, itself among them, as Hugging Face's sliding_window counts; 0: all.
// Throws Error for what is no window of a causal model.
int64_t window_of(const ModelKeys& keys);

}  // namespace flagscale::train
