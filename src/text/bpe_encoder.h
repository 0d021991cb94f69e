#pragma once
// Byte-level BPE as an Encoder: added tokens, normalisation, words, merges.

#include <memory>

#include "text/bpe_model.h"
#include "text/encoder.h"

namespace flagscale::text {

std::unique_ptr<const Encoder> make_bpe_encoder(BpeSpec spec);
std::unique_ptr<const Encoder> make_bpe_encoder(BpeModel model);

}  // namespace flagscale::text
