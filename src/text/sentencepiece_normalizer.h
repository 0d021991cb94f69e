#pragma once
// What SentencePiece makes of a text before it looks for pieces: compiled rules, spaces, the dummy prefix.

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"
#include "text/sentencepiece_file.h"

namespace flagscale::text {

// Rules of the longest match: a double array as Darts-clone lays it out, and what its keys become.
class Charsmap {
 public:
  Charsmap() = default;
  // Errors: kCorrupt naming `source`.
  Charsmap(std::string_view bytes, const std::string& source);
  explicit Charsmap(ImageReader& image) : units_(image.copy<uint32_t>()), results_(image.text()) {}
  void put(ImageWriter& image) const {
    image.array(std::span(units_));
    image.text(results_);
  }

  struct Match {
    size_t size = 0;  // bytes of text; 0: no rule
    std::string_view result;
  };
  Match longest(std::string_view text) const;
  // No rule is this ASCII byte alone, or goes on with another one.
  bool leaves_ascii(char byte) const;

 private:
  uint32_t child(uint32_t node, unsigned char byte) const;  // 0: none
  std::vector<uint32_t> units_;
  std::string results_;  // each ends with a zero byte
};

// In the result a space, U+0020, stands for ▁ if the model escapes spaces: what pieces hold is translated by
// to_inner() likewise. Texts and results are UTF-8.
class SentencePieceNormalizer {
 public:
  SentencePieceNormalizer(const SentencePieceSpec& spec, const std::string& source);
  explicit SentencePieceNormalizer(ImageReader& image);  // what put() wrote
  void put(ImageWriter& image) const;
  // Valid while storage is not changed. at_start: nothing of the text lies before.
  std::string_view normalize(std::string_view text, bool at_start, std::string& storage) const;
  // False: with spaces escaped, no text holds it.
  bool to_inner(std::string& piece) const;

 private:
  struct Prefix {
    size_t size;
    std::string_view result;
  };
  Prefix prefix(std::string_view text) const;
  void append(std::string_view text, std::string& out) const;
  void append_all(std::string_view text, std::string& out) const;

  Charsmap rules_;
  ByteTrie user_defined_;  // taken as they are
  bool prefix_ = false, suffix_ = false, trim_ = false, escape_ = false, prefix_unless_space_ = false,
       prefix_once_ = false;
  bool only_spaces_ = false;           // there are no rules and no user-defined pieces
  std::array<bool, 256> copied_ = {};  // bytes that stay as they are where ASCII follows
};

}  // namespace flagscale::text
