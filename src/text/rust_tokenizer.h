#pragma once
// Any tokenizer.json, through Hugging Face's own crate: exact, and slower than bpe_encoder.h.

#include <memory>
#include <string_view>

#include "text/encoder.h"

namespace flagscale::text {

// Errors: kCorrupt with the crate's words.
std::unique_ptr<const Encoder> make_rust_tokenizer(std::string_view json);

}  // namespace flagscale::text
