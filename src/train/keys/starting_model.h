#pragma once
// Training that starts from the weights of a model: its shape is the training's, and no key that was given
// may ask for another.

#include <string>

#include "model/decoder/config.h"
#include "train/keys/train_config.h"
#include "train/options.h"

namespace flagscale::train {

// Makes `options` train `source`, whose weights lie at `path`. Throws Error{kConfig} naming every given key
// that contradicts it, with both values and where the key stands. No contradictions: keys that were not
// given, a vocab_size below the rows that `source` has (it is padded) and another max_position_embeddings
// (rotary positions have no weights; the longest of the two and seq_length counts).
void start_from(const TrainConfig& config, const model::DecoderConfig& source, const std::string& path,
                TrainOptions& options);

}  // namespace flagscale::train
