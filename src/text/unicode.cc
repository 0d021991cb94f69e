#include "text/unicode.h"

#include <simdjson.h>

#include <algorithm>

namespace flagscale::text {
namespace {

uint32_t byte_at(std::string_view text, size_t i) { return static_cast<unsigned char>(text[i]); }

// The length of the character at i, 0 if there is none; then `bad` is how many bytes the broken one takes,
// and `unfinished` whether the text just ends too early.
struct Step {
  size_t good, bad;
  bool unfinished;
};

Step step(std::string_view text, size_t i) {
  const uint32_t first = byte_at(text, i);
  if (first < 0x80) return {1, 0, false};
  const size_t length = first >= 0xc2 && first < 0xe0   ? 2
                        : first >= 0xe0 && first < 0xf0 ? 3
                        : first >= 0xf0 && first < 0xf5 ? 4
                                                        : 0;
  if (length == 0) return {0, 1, false};
  uint32_t low = 0x80,
           high = 0xbf;  // of the second byte: no overlong forms, no surrogates, nothing past U+10FFFF
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  for (size_t k = 1; k < length; ++k) {
    if (i + k == text.size()) return {0, k, true};
    const uint32_t next = byte_at(text, i + k);
    if (next < low || next > high) return {0, k, false};
    low = 0x80, high = 0xbf;
  }
  return {length, 0, false};
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
  if (simdjson::validate_utf8(text.data(), text.size())) return text.size();
  size_t i = 0;
  while (i < text.size()) {
    const Step at = step(text, i);
    if (at.good == 0) return i;
    i += at.good;
  }
  return i;
}

size_t unfinished_utf8_suffix(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const size_t i = text.size() - back;
    if (byte_at(text, i) < 0x80) return 0;
    if (byte_at(text, i) >= 0xc0) return step(text, i).unfinished ? back : 0;
  }
  return 0;
}

std::string utf8_lossy(std::string_view text) {
  if (valid_utf8_prefix(text) == text.size()) return std::string(text);
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Step at = step(text, i);
    if (at.good > 0)
      result += text.substr(i, at.good);
    else
      result += "\xef\xbf\xbd";
    i += at.good + at.bad;
  }
  return result;
}

void append_utf8(uint32_t code, std::string& out) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6), put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f)),
        put(0x80 | (code & 0x3f));
  }
}

}  // namespace flagscale::text
