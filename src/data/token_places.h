#pragma once
// Places of a text among its tokens.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace flagscale::data {

// Where each token is bytes of the text, these are counted; else (a tokenizer that normalises) the text up to
// the place is encoded, and what it has in common with the whole counts. Keeps views of what it is made of.
class TokenPlaces {
 public:
  TokenPlaces(const text::Tokenizer& tokenizer, std::string_view text, std::span<const int32_t> ids);

  // Tokens that end at or before it. A token across it is not among them.
  size_t before(size_t byte) const;
  // No token is across it.
  bool is_between(size_t byte) const;

 private:
  const text::Tokenizer& tokenizer_;
  std::string_view text_;
  std::span<const int32_t> ids_;
  std::vector<size_t> ends_;  // of tokens, in bytes
};

}  // namespace flagscale::data
