#pragma once
// The scanners behind pre_tokenizer.h. Each follows its regular expression alternative by alternative: where
// a comment says so, the order of the alternatives is what decides.

#include <array>
#include <string_view>

#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace flagscale::text::scan {

constexpr auto kAsciiClass = [] {
  std::array<CharClass, 128> table{};
  for (int c = 0; c < 128; ++c) {
    auto& entry = table[static_cast<size_t>(c)];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
      entry = CharClass::kLetter;
    else if (c >= '0' && c <= '9')
      entry = CharClass::kNumber;
    else if (c == ' ' || (c >= '\t' && c <= '\r'))
      entry = CharClass::kSpace;
    else if (std::string_view("$+<=>^`|~").find(static_cast<char>(c)) != std::string_view::npos)
      entry = CharClass::kSymbol;
    else if (c > ' ' && c < 127)
      entry = CharClass::kPunctuation;
  }
  return table;
}();

struct Seen {
  CharClass cls;
  uint32_t size;
};

inline Seen look(const char* p) {
  const auto first = static_cast<unsigned char>(*p);
  if (first < 0x80) return {kAsciiClass[first], 1};
  const Char c = decode_char(p);
  return {char_class(c.code), c.size};
}

inline bool is_newline(char c) { return c == '\n' || c == '\r'; }

// The end of the run of characters from p whose class satisfies in().
template <class In>
const char* run(const char* p, const char* end, In in) {
  while (p < end) {
    const Seen seen = look(p);
    if (!in(seen.cls)) break;
    p += seen.size;
  }
  return p;
}

inline constexpr auto is_space = [](CharClass c) { return c == CharClass::kSpace; };
inline constexpr auto is_number = [](CharClass c) { return c == CharClass::kNumber; };
inline constexpr auto is_letter = [](CharClass c) { return c == CharClass::kLetter; };
inline constexpr auto is_letter_or_mark = [](CharClass c) {
  return c == CharClass::kLetter || c == CharClass::kMark;
};
inline constexpr auto is_rest = [](CharClass c) { return !is_space(c) && !is_number(c) && !is_letter(c); };

// 's 't 're 've 'm 'll 'd at an apostrophe: their end, or p. Any case, as Unicode folds it: ſ is an s.
template <bool kAnyCase>
const char* contraction(const char* p, const char* end) {
  const auto at = [&](ptrdiff_t i) -> char {
    if (end - p <= i) return 0;
    return kAnyCase && p[i] >= 'A' && p[i] <= 'Z' ? static_cast<char>(p[i] + 32) : p[i];
  };
  switch (at(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return p + 2;
    case 'r':
    case 'v':
      return at(2) == 'e' ? p + 3 : p;
    case 'l':
      return at(2) == 'l' ? p + 3 : p;
    default:
      return kAnyCase && at(1) == '\xc5' && at(2) == '\xbf' ? p + 3 : p;
  }
}

// \s+(?!\S)|\s+ over the run [p, stop): what stands before another character is left for the next word.
inline const char* spaces(const char* p, const char* stop, const char* end) {
  if (stop == end) return stop;
  const char* last = stop - 1;
  while ((*last & 0xc0) == 0x80) --last;
  return last > p ? last : stop;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
inline const char* gpt2(const char* p, const char* end) {
  if (*p == '\'') {
    const char* stop = contraction<false>(p, end);
    if (stop != p) return stop;
  }
  const char* q = p + (*p == ' ');
  if (q < end) {
    const Seen first = look(q);
    if (is_letter(first.cls)) return run(q + first.size, end, is_letter);
    if (is_number(first.cls)) return run(q + first.size, end, is_number);
    if (!is_space(first.cls)) return run(q + first.size, end, is_rest);
  }
  return spaces(p, run(p, end, is_space), end);
}

// Digits first cuts out every numeric character, so that to the expression a text ends before it.
inline constexpr auto is_digit_apart = [](CharClass c) {
  return c == CharClass::kNumber || c == CharClass::kLateNumber;
};
inline const char* gpt2_digits(const char* p, const char* end) {
  const Seen here = look(p);
  if (is_digit_apart(here.cls)) return p + here.size;
  if (*p == '\'') {
    const char* stop = contraction<false>(p, end);
    if (stop != p) return stop;
  }
  const char* q = p + (*p == ' ');
  if (q < end) {
    const Seen first = look(q);
    if (is_letter(first.cls)) return run(q + first.size, end, is_letter);
    if (is_digit_apart(first.cls)) return q;
    if (!is_space(first.cls))
      return run(q + first.size, end, [](CharClass c) { return is_rest(c) && c != CharClass::kLateNumber; });
  }
  const char* stop = run(p, end, is_space);
  if (stop < end && is_digit_apart(look(stop).cls)) return stop;
  return spaces(p, stop, end);
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at a space: up to the last line end of the run, if it has one.
inline const char* spaces_with_lines(const char* p, const char* end) {
  const char* stop = run(p, end, is_space);
  for (const char* last = stop; last > p; --last)
    if (is_newline(last[-1])) return last;
  return spaces(p, stop, end);
}

// (?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// kDigits: the most digits of a number. kMarks: marks are letters in \p{L}+, and apart from [^\s\p{L}\p{N}];
// the one character before a word may still be a mark, which changes nothing since a mark starts a word
// itself.
template <int kDigits, bool kMarks>
const char* llama3(const char* p, const char* end) {
  constexpr auto in_word = [](CharClass c) { return kMarks ? is_letter_or_mark(c) : is_letter(c); };
  const auto in_rest = [](CharClass c) { return is_rest(c) && !(kMarks && c == CharClass::kMark); };
  if (*p == '\'') {
    const char* stop = contraction<true>(p, end);
    if (stop != p) return stop;
  }
  const Seen first = look(p);
  const char* q = p + first.size;
  if (in_word(first.cls)) return run(q, end, in_word);
  if (is_number(first.cls)) {
    for (int digits = 1; digits < kDigits && q < end; ++digits) {
      const Seen next = look(q);
      if (!is_number(next.cls)) break;
      q += next.size;
    }
    return q;
  }
  if (!is_newline(*p) && q < end) {
    const Seen second = look(q);
    if (in_word(second.cls)) return run(q + second.size, end, in_word);
    if (*p == ' ' && in_rest(second.cls)) {
      const char* stop = run(q + second.size, end, in_rest);
      while (stop < end && is_newline(*stop)) ++stop;
      return stop;
    }
  }
  if (is_space(first.cls)) return spaces_with_lines(p, end);
  const char* stop = run(q, end, in_rest);
  while (stop < end && is_newline(*stop)) ++stop;
  return stop;
}

// [!"#...~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// p if nothing matches there (control characters).
inline const char* deepseek_word(const char* p, const char* end) {
  const auto is_ascii_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_sign = [](CharClass c) { return c == CharClass::kPunctuation || c == CharClass::kSymbol; };
  const Seen first = look(p);
  const char* q = p + first.size;
  if (first.size == 1 && is_sign(first.cls) && q < end && is_ascii_letter(*q)) {
    while (q < end && is_ascii_letter(*q)) ++q;
    return q;
  }
  if (first.cls == CharClass::kLetter) return run(q, end, is_letter_or_mark);
  const bool may_lead = !is_newline(*p) && !is_sign(first.cls);
  if (may_lead && q < end && is_letter_or_mark(look(q).cls)) return run(q, end, is_letter_or_mark);
  if (first.cls == CharClass::kMark) return q;  // alone: no letter or mark follows
  const char* signs = p + (*p == ' ');
  const char* stop = run(signs, end, is_sign);
  if (stop > signs) {
    while (stop < end && is_newline(*stop)) ++stop;
    return stop;
  }
  return is_space(first.cls) ? spaces_with_lines(p, end) : p;
}

inline bool is_chinese_or_kana(uint32_t c) {
  return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff);
}

enum class DeepSeekPart { kNumber, kChinese, kRest };
inline DeepSeekPart deepseek_part(const char* p, uint32_t& size) {
  const auto first = static_cast<unsigned char>(*p);
  if (first < 0x80) {
    size = 1;
    return kAsciiClass[first] == CharClass::kNumber ? DeepSeekPart::kNumber : DeepSeekPart::kRest;
  }
  const Char c = decode_char(p);
  size = c.size;
  if (is_chinese_or_kana(c.code)) return DeepSeekPart::kChinese;
  return char_class(c.code) == CharClass::kNumber ? DeepSeekPart::kNumber : DeepSeekPart::kRest;
}

// Splits by numbers of three, then runs of Chinese and kana, then by deepseek_word() inside each part.
template <class F>
void deepseek3(const char* p, const char* end, F&& word) {
  while (p < end) {
    uint32_t size;
    const DeepSeekPart part = deepseek_part(p, size);
    const char* stop = p + size;
    for (int digits = 1; stop < end; ++digits) {
      if (deepseek_part(stop, size) != part || (part == DeepSeekPart::kNumber && digits == 3)) break;
      stop += size;
    }
    if (part == DeepSeekPart::kNumber) {
      word(p, stop);
      p = stop;
      continue;
    }
    const char* unmatched = p;  // what no alternative takes stays together as one word
    while (p < stop) {
      const char* next = deepseek_word(p, stop);
      if (next == p) {
        p += look(p).size;
        continue;
      }
      if (unmatched < p) word(unmatched, p);
      word(p, next);
      unmatched = p = next;
    }
    if (unmatched < stop) word(unmatched, stop);
  }
}

template <class Next, class F>
void each(const char* p, const char* end, Next next, F&& word) {
  while (p < end) {
    const char* stop = next(p, end);
    word(p, stop);
    p = stop;
  }
}

}  // namespace flagscale::text::scan

namespace flagscale::text {

template <class F>
void for_each_word(PreTokenizer kind, std::string_view text, F&& word) {
  const char *p = text.data(), *end = p + text.size();
  switch (kind) {
    case PreTokenizer::kGpt2:
      return scan::each(p, end, scan::gpt2, word);
    case PreTokenizer::kGpt2Digits:
      return scan::each(p, end, scan::gpt2_digits, word);
    case PreTokenizer::kLlama3:
      return scan::each(p, end, scan::llama3<3, false>, word);
    case PreTokenizer::kQwen2:
      return scan::each(p, end, scan::llama3<1, false>, word);
    case PreTokenizer::kQwen35:
      return scan::each(p, end, scan::llama3<1, true>, word);
    case PreTokenizer::kDeepSeek3:
      return scan::deepseek3(p, end, word);
    case PreTokenizer::kNone:
      if (p < end) word(p, end);
      return;
  }
}

}  // namespace flagscale::text
