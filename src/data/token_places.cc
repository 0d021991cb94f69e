#include "data/token_places.h"

#include <algorithm>

namespace flagscale::data {

TokenPlaces::TokenPlaces(const text::Tokenizer& tokenizer, std::string_view text,
                         std::span<const int32_t> ids)
    : tokenizer_(tokenizer), text_(text), ids_(ids) {
  size_t at = 0;
  for (const int32_t id : ids) {
    const auto bytes = tokenizer.encoder().token_bytes(id, false);
    if (!bytes || text.substr(at, bytes->size()) != *bytes) break;
    ends_.push_back(at += bytes->size());
  }
  if (at != text.size()) ends_.clear();
}

size_t TokenPlaces::before(size_t byte) const {
  if (!ends_.empty())
    return static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), byte) - ends_.begin());
  const auto part = tokenizer_.encode(text_.substr(0, byte));
  const size_t most = std::min(part.size(), ids_.size());
  return static_cast<size_t>(
      std::mismatch(part.begin(), part.begin() + static_cast<std::ptrdiff_t>(most), ids_.begin()).first -
      part.begin());
}

bool TokenPlaces::is_between(size_t byte) const {
  if (!ends_.empty()) return byte == 0 || std::binary_search(ends_.begin(), ends_.end(), byte);
  return before(byte) == tokenizer_.encode(text_.substr(0, byte)).size();
}

}  // namespace flagscale::data
