#pragma once
// Unicode normalisation form C, for tokenizers that ask for it (Qwen). What is normal already, nearly all
// text, is only looked at; the rest is made by the Rust crate that Hugging Face's tokenizers use.

#include <string>
#include <string_view>

namespace flagscale::text {

// text (valid UTF-8) if it is normal; else the normal form, in storage.
std::string_view nfc(std::string_view text, std::string& storage);

}  // namespace flagscale::text
