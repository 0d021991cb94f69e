#include "text/added_tokens.h"

#include <emmintrin.h>

#include <algorithm>
#include <bit>

#include "text/scanners.h"

namespace flagscale::text {

void put(ImageWriter& image, const std::vector<AddedToken>& tokens) {
  image.number(tokens.size());
  for (const AddedToken& token : tokens) {
    image.number(static_cast<uint64_t>(token.id));
    image.flags({token.special, token.normalized, token.lstrip, token.rstrip});
    image.text(token.content);
  }
}

std::vector<AddedToken> take_added_tokens(ImageReader& image) {
  std::vector<AddedToken> tokens;
  for (uint64_t left = image.number(); left > 0 && image.good(); --left) {
    AddedToken token;
    token.id = static_cast<int32_t>(image.number());
    image.flags({&token.special, &token.normalized, &token.lstrip, &token.rstrip});
    token.content = image.text();
    tokens.push_back(std::move(token));
  }
  return tokens;
}

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
  size_t firsts = 0;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (by_first_[byte] == by_first_[byte + 1]) continue;
    if (firsts < firsts_.size()) std::fill(firsts_.begin() + firsts, firsts_.end(), static_cast<char>(byte));
    ++firsts;
  }
  few_firsts_ = firsts <= firsts_.size();
}

// Where the next byte from i on that starts some token stands; text.size() if there is none.
size_t AddedTokenMatcher::next_start(std::string_view text, size_t i) const {
  if (few_firsts_) {
    const __m128i a = _mm_set1_epi8(firsts_[0]), b = _mm_set1_epi8(firsts_[1]), c = _mm_set1_epi8(firsts_[2]),
                  d = _mm_set1_epi8(firsts_[3]);
    for (; i + 16 <= text.size(); i += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + i));
      const __m128i ab = _mm_or_si128(_mm_cmpeq_epi8(bytes, a), _mm_cmpeq_epi8(bytes, b)),
                    cd = _mm_or_si128(_mm_cmpeq_epi8(bytes, c), _mm_cmpeq_epi8(bytes, d));
      const auto found = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(ab, cd)));
      if (found) return i + static_cast<size_t>(std::countr_zero(found));
    }
  }
  for (; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (by_first_[byte] != by_first_[byte + size_t{1}]) break;
  }
  return i;
}

AddedTokenMatcher::Match AddedTokenMatcher::find(std::string_view text, size_t from) const {
  for (size_t i = next_start(text, from); i < text.size(); i = next_start(text, i + 1)) {
    const auto byte = static_cast<unsigned char>(text[i]);
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
