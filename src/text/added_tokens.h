#pragma once
// Tokens that are cut out of text before the algorithm sees it: special ones, and those added by hand.

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/image.h"

namespace flagscale::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;              // looked for in the normalised text
  bool lstrip = false, rstrip = false;  // takes the white space beside it along
};

void put(ImageWriter& image, const std::vector<AddedToken>& tokens);
std::vector<AddedToken> take_added_tokens(ImageReader& image);

// Finds added tokens: leftmost, then longest. Costs one table look-up a byte where none can start.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);
  bool empty() const { return tokens_.empty(); }

  // Calls text(piece) and token(id) in order over the whole text.
  template <class Text, class Token>
  void split(std::string_view text, Text&& on_text, Token&& on_token) const {
    if (tokens_.empty()) {
      if (!text.empty()) on_text(text);
      return;
    }
    size_t from = 0;
    for (Match match = find(text, 0); match.token; match = find(text, match.after)) {
      const Span span = stripped(text, match, from);
      if (from < span.begin) on_text(text.substr(from, span.begin - from));
      on_token(match.token->id);
      from = span.end;
    }
    if (from < text.size()) on_text(text.substr(from));
  }

 private:
  struct Match {
    const AddedToken* token = nullptr;
    size_t begin = 0, after = 0;
  };
  struct Span {
    size_t begin, end;
  };
  Match find(std::string_view text, size_t from) const;
  size_t next_start(std::string_view text, size_t i) const;
  Span stripped(std::string_view text, const Match& match, size_t from) const;

  std::vector<AddedToken> tokens_;        // sorted by first byte, then longest first
  std::array<uint32_t, 257> by_first_{};  // tokens_[by_first_[b] .. by_first_[b + 1]) start with byte b
  std::array<std::bitset<256>, 256>
      second_;                    // [first byte]: the bytes that go on some token of two bytes or more
  std::array<char, 4> firsts_{};  // the bytes that tokens start with, if they are no more than these
  bool few_firsts_ = false;
};

}  // namespace flagscale::text
