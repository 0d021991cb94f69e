#include "launch/diagnosis/line_match.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "launch/diagnosis/keyword_search.h"

namespace flagscale::launch {

namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_'; }

bool word_starts(std::string_view line, size_t at) { return at == 0 || !is_word(line[at - 1]); }
bool word_ends(std::string_view line, size_t at) { return at == line.size() || !is_word(line[at]); }

// The end of `piece`, which has no `*`, if it stands at `at`.
std::optional<size_t> match_here(std::string_view piece, std::string_view line, size_t at) {
  for (const char c : piece) {
    if (c == '<') {
      if (!word_starts(line, at)) return std::nullopt;
    } else if (c == '>') {
      if (!word_ends(line, at)) return std::nullopt;
    } else if (c == '#') {
      const size_t first = at;
      while (at < line.size() && is_digit(line[at])) ++at;
      if (at == first) return std::nullopt;
    } else if (at < line.size() && line[at] == c) {
      ++at;
    } else {
      return std::nullopt;
    }
  }
  return at;
}

std::optional<Span> find_piece(std::string_view piece, std::string_view line, size_t from) {
  for (size_t at = from; at <= line.size(); ++at)
    if (const auto end = match_here(piece, line, at)) return Span{at, *end};
  return std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at; (at = text.find(separator)) != std::string_view::npos; text.remove_prefix(at + 1))
    parts.push_back(text.substr(0, at));
  parts.push_back(text);
  return parts;
}

std::string longest_plain_text(std::string_view alternative) {
  std::string_view best;
  while (!alternative.empty()) {
    const size_t end = std::min(alternative.find_first_of("*#<>"), alternative.size());
    if (end > best.size()) best = alternative.substr(0, end);
    alternative.remove_prefix(std::min(end + 1, alternative.size()));
  }
  return std::string(best);
}

// The word that ends before `at`, and what stands between the two.
struct Before {
  std::string_view word, gap;
};

Before word_before(std::string_view line, size_t at) {
  size_t end = at;
  while (end > 0 && !is_word(line[end - 1])) --end;
  size_t begin = end;
  while (begin > 0 && is_word(line[begin - 1])) --begin;
  return {line.substr(begin, end - begin), line.substr(end, at - end)};
}

template <size_t N>
bool among(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

constexpr std::array<std::string_view, 3> kNone{"no", "without", "zero"};
constexpr std::array<std::string_view, 8> kOnlyBefore{"not",     "never",    "non",   "ignore",
                                                      "ignored", "ignoring", "avoid", "prevent"};
constexpr std::array<std::string_view, 7> kCounts{"", "with", "had", "found", "saw", "and", "got"};

// "0 exceptions" and "found 0 cuda errors", but not "rank 0 exception".
bool is_zero_count(std::string_view line, const Before& before) {
  if (before.word != "0" || before.gap != " ") return false;
  const auto at = static_cast<size_t>(before.word.data() - line.data());
  const Before earlier = word_before(line, at);
  return earlier.gap.find_first_of(",;(") != std::string_view::npos || among(earlier.word, kCounts);
}

bool denied_before(std::string_view line, size_t begin) {
  const Before first = word_before(line, begin);
  if (first.gap.find_first_not_of(" -") != std::string_view::npos) return false;
  if (among(first.word, kNone) || among(first.word, kOnlyBefore) || is_zero_count(line, first)) return true;
  const Before second = word_before(line, static_cast<size_t>(first.word.data() - line.data()));
  return second.gap == " " && (among(second.word, kNone) || is_zero_count(line, second));
}

// "exceptions: 0", "cuda errors = none |".
bool denied_after(std::string_view line, size_t end) {
  const auto skip = [&](std::string_view characters) {
    end = std::min(line.find_first_not_of(characters, end), line.size());
  };
  if (end < line.size() && line[end] == 's') ++end;
  const size_t before_mark = end;
  skip(" :=");
  if (line.substr(before_mark, end - before_mark).find_first_of(":=") == std::string_view::npos) return false;
  for (const std::string_view none : {"0", "none", "no", "false"})
    if (line.substr(end).starts_with(none)) {
      end += none.size();
      skip(" ");
      return end == line.size() || line.substr(end, 1).find_first_of("|,;)]") != std::string_view::npos;
    }
  return false;
}

// "  use_flash_attn .................. False", as Megatron prints its arguments.
bool prints_an_argument(std::string_view line) {
  const size_t dots = line.find(" ....");
  return dots != std::string_view::npos &&
         line.substr(0, dots).find_last_of(' ') <= line.find_first_not_of(' ');
}

std::string lower_case(std::string_view line) {
  std::string lower(line);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return lower;
}

// Whether it stands somewhere in the line and is not denied there.
bool happens(std::string_view alternative, std::string_view lower_line) {
  for (size_t from = 0; from <= lower_line.size();) {
    const auto span = match_alternative(alternative, lower_line, from);
    if (!span) return false;
    if (!is_denied(lower_line, *span)) return true;
    from = span->end;
  }
  return false;
}

struct Alternative {
  std::string_view text;
  size_t row;
};

// The table, taken apart once.
class Index {
 public:
  static const Index& instance() {
    static const Index index;
    return index;
  }

  const Pattern* find(std::string_view line) const {
    std::vector<uint32_t> candidates;
    search_.search(line, [&](uint32_t i) { candidates.push_back(i); });
    if (candidates.empty()) return nullptr;
    std::sort(candidates.begin(), candidates.end());  // by row
    const std::string lower = lower_case(line);
    for (const uint32_t i : candidates)
      if (happens(alternatives_[i].text, lower)) return &patterns()[alternatives_[i].row];
    return nullptr;
  }

 private:
  Index() : alternatives_(take_apart()), search_(words()) {}

  static std::vector<Alternative> take_apart() {
    std::vector<Alternative> alternatives;
    for (size_t row = 0; row < patterns().size(); ++row)
      for (const std::string_view text : split(patterns()[row].match, '|'))
        alternatives.push_back({text, row});
    return alternatives;
  }
  std::vector<std::string> words() const {
    std::vector<std::string> result;
    for (const Alternative& alternative : alternatives_)
      result.push_back(longest_plain_text(alternative.text));
    return result;
  }

  std::vector<Alternative> alternatives_;
  KeywordSearch search_;
};

}  // namespace

std::optional<Span> match_alternative(std::string_view alternative, std::string_view lower_line,
                                      size_t from) {
  std::optional<Span> whole;
  for (const std::string_view piece : split(alternative, '*')) {
    const auto found = find_piece(piece, lower_line, from);
    if (!found) return std::nullopt;
    if (!whole) whole = *found;
    whole->end = from = found->end;
  }
  return whole;
}

bool is_denied(std::string_view lower_line, Span span) {
  return denied_before(lower_line, span.begin) || denied_after(lower_line, span.end);
}

const Pattern* find_pattern(std::string_view line) {
  return prints_an_argument(line) ? nullptr : Index::instance().find(line);
}

}  // namespace flagscale::launch
