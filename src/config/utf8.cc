#include "config/utf8.h"

#include <fmt/format.h>

#include <cstdint>

namespace flagscale::config {
namespace {

struct Decoded {
  uint32_t code = 0;
  size_t length = 0;  // 0: not UTF-8
};

Decoded decode(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const uint32_t first = byte(at);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return {};
  uint32_t code = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0u) != 0x80) return {};
    code = code << 6 | (byte(at + i) & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code > 0x10ffff ? Decoded{} : Decoded{code, length};
}

// PyYAML's reader.
bool printable(uint32_t code) {
  return code == 0x09 || code == 0x0a || code == 0x0d || (code >= 0x20 && code <= 0x7e) || code == 0x85 ||
         (code >= 0xa0 && code <= 0xd7ff) || (code >= 0xe000 && code <= 0xfffd) || code >= 0x10000;
}

}  // namespace

std::optional<BadCharacter> first_bad_character(const std::string& text) {
  int line = 1;
  for (size_t at = 0; at < text.size();) {
    const Decoded decoded = decode(text, at);
    if (decoded.length == 0) return BadCharacter{line, "is not UTF-8"};
    if (!printable(decoded.code))
      return BadCharacter{line, fmt::format("has the control character {:#04x}", decoded.code)};
    if (decoded.code == '\n') ++line;
    at += decoded.length;
  }
  return std::nullopt;
}

}  // namespace flagscale::config
