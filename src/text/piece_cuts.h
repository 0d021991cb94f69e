#pragma once
// Where a text may be cut so that no piece of a vocabulary lies across: between two characters that stand
// side by side in no piece. Parts can then be encoded one by one, and most are words, which repeat.

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/image.h"
#include "text/unicode.h"

namespace flagscale::text {

class PieceCuts {
 public:
  PieceCuts() = default;
  explicit PieceCuts(ImageReader& image) : joined_(image.copy<uint64_t>()) {}  // what put() wrote
  void put(ImageWriter& image) const { image.array(std::span(joined_)); }

  // piece: UTF-8.
  void add(std::string_view piece) {
    const char *p = piece.data(), *end = p + piece.size();
    uint32_t before = 0;
    for (bool first = true; p < end; first = false) {
      const Char c = decode_char(p);
      if (!first) set(before, c.code);
      before = c.code;
      p += c.size;
    }
  }

  // Calls part(begin, end) for every part of the UTF-8 text in order; they cover it.
  template <class F>
  void for_each_part(std::string_view text, F&& part) const {
    if (text.empty()) return;
    const char *begin = text.data(), *end = begin + text.size();
    Char c = decode_char(begin);
    for (const char* p = begin + c.size; p < end;) {
      const uint32_t before = c.code;
      c = decode_char(p);
      if (!joined(before, c.code)) {
        part(begin, p);
        begin = p;
      }
      p += c.size;
    }
    part(begin, end);
  }

 private:
  static constexpr uint32_t kAscii = 0x80, kBits = 22;  // half a megabyte, of which a text touches little
  // Pairs of ASCII characters have a bit each, the others share those after them.
  static uint32_t place(uint32_t before, uint32_t after) {
    if ((before | after) < kAscii) return before * kAscii + after;
    return kAscii * kAscii + ((before * 0x9e3779b1u ^ after * 0x85ebca6bu) * 0xc2b2ae35u >> (32 - kBits));
  }
  void set(uint32_t before, uint32_t after) {
    const uint32_t at = place(before, after);
    joined_[at / 64] |= uint64_t{1} << at % 64;
  }
  bool joined(uint32_t before, uint32_t after) const {
    const uint32_t at = place(before, after);
    return joined_[at / 64] >> at % 64 & 1;
  }

  std::vector<uint64_t> joined_ = std::vector<uint64_t>((kAscii * kAscii + (uint32_t{1} << kBits)) / 64);
};

}  // namespace flagscale::text
