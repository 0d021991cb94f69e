#pragma once
// GPT-2's alphabet: each byte as a printable character, so that a vocabulary of byte strings is text ("Ġ" is
// a space).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flagscale::text {

// byte -> code point, and the 256 bytes in the order of their code points (the order of ids in trained files)
extern const std::array<uint32_t, 256> kByteToCode;
extern const std::array<uint8_t, 256> kBytesInOrder;

std::string bytes_to_alphabet(std::string_view bytes);
// nullopt: a character that stands for no byte.
std::optional<std::string> alphabet_to_bytes(std::string_view text);

}  // namespace flagscale::text
