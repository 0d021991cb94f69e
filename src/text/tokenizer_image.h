#pragma once
// A tokenizer as bytes that a later start maps, in place of reading its file: its tables in the form in which
// it looks things up. Whoever keeps an image keeps a checksum with it: the tables are used as they are.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "text/tokenizer.h"

namespace flagscale::text {

inline constexpr int kTokenizerImage = 2;  // another number when tables or their hashes change

// "" for a tokenizer that has none: byte-level BPE and SentencePiece have.
std::string tokenizer_image(const Tokenizer& tokenizer);

// null when the bytes (aligned to 8) are no whole image. `memory` keeps them as long as the tokenizer lives.
std::unique_ptr<Tokenizer> tokenizer_from_image(std::span<const std::byte> image,
                                                std::shared_ptr<const void> memory);

}  // namespace flagscale::text
