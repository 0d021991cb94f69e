#pragma once
// Megatron's NullTokenizer: the text is token ids already, decimal and parted by white space.

#include <memory>

#include "text/encoder.h"

namespace flagscale::text {

// Ids are 0 to vocab_size - 1; vocab_size itself is the end of a document, as Megatron has it.
std::unique_ptr<const Encoder> make_number_encoder(int32_t vocab_size);

}  // namespace flagscale::text
