#pragma once
// SentencePiece models (BPE, unigram, words, characters) as an Encoder: the ids are those of the library,
// sentencepiece 0.2.3.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/encoder.h"

namespace flagscale::text {

struct SentencePieceOptions {
  bool add_bos = true, add_eos = false;  // where the model has them
  std::vector<AddedToken> added;         // beyond the model's own control tokens
};

// proto: a .model file's bytes. Errors: kCorrupt. bos and eos are the model's own ids.
struct SentencePieceModel {
  std::unique_ptr<const Encoder> encoder;
  int32_t bos, eos, pad, unk;  // -1: none
};
SentencePieceModel make_sentencepiece(std::string_view proto, const SentencePieceOptions& options,
                                      const std::string& source);

std::unique_ptr<const Encoder> make_sentencepiece(ImageReader& image);  // what Encoder::put() wrote

// A tokenizer.json of LLaMA-2's kind (spec.characters): Hugging Face's ids.
std::unique_ptr<const Encoder> make_character_bpe(BpeSpec spec, const std::string& source);

}  // namespace flagscale::text
