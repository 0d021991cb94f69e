#include "text/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "text/scanners.h"

namespace flagscale::text {

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  const auto first = [](const AddedToken& token) { return static_cast<unsigned char>(token.content[0]); };
  std::sort(tokens_.begin(), tokens_.end(), [&](const AddedToken& a, const AddedToken& b) {
    if (first(a) != first(b)) return first(a) < first(b);
    if (a.content.size() != b.content.size()) return a.content.size() > b.content.size();
    return a.content < b.content;
  });
  for (const AddedToken& token : tokens_) {
    ++by_first_[first(token) + size_t{1}];
    if (token.content.size() == 1)
      second_[first(token)].set();
    else
      second_[first(token)].set(static_cast<unsigned char>(token.content[1]));
  }
  for (size_t i = 1; i < by_first_.size(); ++i) by_first_[i] += by_first_[i - 1];
  if (!tokens_.empty() && first(tokens_.front()) == first(tokens_.back()))
    only_first_ = first(tokens_.front());
}

AddedTokenMatcher::Match AddedTokenMatcher::find(std::string_view text, size_t from) const {
  for (size_t i = from; i < text.size(); ++i) {
    if (only_first_ >= 0) {
      const void* next = std::memchr(text.data() + i, only_first_, text.size() - i);
      if (!next) return {};
      i = static_cast<size_t>(static_cast<const char*>(next) - text.data());
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    if (by_first_[byte] == by_first_[byte + size_t{1}]) continue;
    const size_t second = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (!second_[byte][second] && i + 1 < text.size()) continue;
    const std::string_view rest = text.substr(i);
    for (uint32_t k = by_first_[byte]; k < by_first_[byte + size_t{1}]; ++k)
      if (rest.starts_with(tokens_[k].content)) return {&tokens_[k], i, i + tokens_[k].content.size()};
  }
  return {};
}

AddedTokenMatcher::Span AddedTokenMatcher::stripped(std::string_view text, const Match& match,
                                                    size_t from) const {
  Span span{match.begin, match.after};
  const char* end = text.data() + text.size();
  if (match.token->lstrip) {
    while (span.begin > 0) {
      size_t at = span.begin - 1;
      while (at > 0 && (text[at] & 0xc0) == 0x80) --at;
      if (!scan::is_space(scan::look(text.data() + at).cls)) break;
      span.begin = at;
    }
    span.begin = std::max(span.begin, from);
  }
  if (match.token->rstrip)
    span.end = static_cast<size_t>(scan::run(text.data() + span.end, end, scan::is_space) - text.data());
  return span;
}

}  // namespace flagscale::text
