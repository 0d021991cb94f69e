#pragma once
// UTF-8 and character classes, for scanners of text that is known to be valid UTF-8.

#include <cstdint>
#include <string>
#include <string_view>

#include "text/unicode_tables.h"

namespace flagscale::text {

// What the pre-tokenizers' regular expressions ask of a character. Line feed and carriage return are kSpace.
enum class CharClass : uint8_t {
  kOther,
  kLetter,       // \p{L}
  kMark,         // \p{M}
  kNumber,       // \p{N}
  kSpace,        // \s
  kPunctuation,  // \p{P}
  kSymbol,       // \p{S}
  kLateNumber,   // a number for Rust's newer Unicode (Digits), unassigned for Oniguruma (regular expressions)
};

struct Char {
  uint32_t code;
  uint32_t size;  // bytes
};

// The character at p, which starts one.
inline Char decode_char(const char* p) {
  const auto byte = [p](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(p[i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xe0) return {(first & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (first < 0xf0) return {(first & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(first & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

inline CharClass char_class(uint32_t code) {
  const uint32_t at = kClassIndex[code >> 7] * 128u + (code & 127);
  return static_cast<CharClass>(kClassValues[at >> 1] >> (at & 1) * 4 & 15);
}

// Canonical combining class; 255 for what normalisation may change or join to what stands before.
inline uint8_t combining_class(uint32_t code) {
  return kCombiningValues[kCombiningIndex[code >> 7] * 128u + (code & 127)];
}

// The byte before which the text is valid UTF-8; text.size() if all of it is.
size_t valid_utf8_prefix(std::string_view text);
// How many bytes at the end may be the start of a character that goes on (0 to 3).
size_t unfinished_utf8_suffix(std::string_view text);
// Each largest part that cannot be a character becomes U+FFFD, as in Rust and WHATWG.
std::string utf8_lossy(std::string_view text);
void append_utf8(uint32_t code, std::string& out);

}  // namespace flagscale::text
