#include "chat/inline_markdown.h"

#include <cctype>

namespace flagscale::chat {

namespace {

constexpr size_t kPatience = 2000;  // bytes to wait for a mark's partner

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || (c & 0x80) != 0; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }
bool is_punctuation(char c) { return std::ispunct(static_cast<unsigned char>(c)) != 0; }

size_t run_at(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && text[end] == text[at]) ++end;
  return end - at;
}

// What stands at a line's front: text up to `inner_begin` and from `inner_end` to `end` are its marks.
struct Found {
  enum class Kind { kUndecided, kLiteral, kSpan } kind = Kind::kUndecided;
  size_t inner_begin = 0, inner_end = 0, end = 0;  // kLiteral: end alone
};
Found literal(size_t size) { return {Found::Kind::kLiteral, 0, 0, size}; }
Found undecided(bool complete, size_t size) { return complete ? literal(size) : Found{}; }

// `code`, between runs of equally many backticks.
Found find_code(std::string_view text, bool complete) {
  const size_t run = run_at(text, 0);
  for (size_t at = run; at < text.size();) {
    if (text[at] != '`') {
      ++at;
      continue;
    }
    const size_t other = run_at(text, at);
    if (at + other == text.size() && !complete) return {};  // it may grow
    if (other == run) return {Found::Kind::kSpan, run, at, at + run};
    at += other;
  }
  return undecided(complete, run);
}

// The end of a code span that begins at `at`, or what is no span.
size_t skip_code(std::string_view text, size_t at) {
  const Found code = find_code(text.substr(at), true);
  return at + code.end;
}

Found find_emphasis(std::string_view text, bool complete, char previous) {
  const char mark = text[0];
  const size_t run = run_at(text, 0);
  if (run == text.size()) return undecided(complete, run);
  const bool pair = mark == '~';
  if (is_blank(text[run]) || (pair ? run != 2 : run > 3) || (mark == '_' && is_word(previous)))
    return literal(run);
  for (size_t at = run; at < text.size();) {
    if (text[at] == '\\') {
      at += 2;
    } else if (text[at] == '`') {
      at = skip_code(text, at);
    } else if (text[at] != mark) {
      ++at;
    } else {
      const size_t other = run_at(text, at);
      const bool open = at + other == text.size() && !complete;  // what follows decides
      const bool closes = !is_blank(text[at - 1]) && (other == run || (other == 3 && run < 3));
      if (closes && open) return {};
      const char next = at + other < text.size() ? text[at + other] : '\n';
      if (closes && !(mark == '_' && is_word(next))) {
        const size_t end = at + (other - run);  // ***: the inner marks come first
        return {Found::Kind::kSpan, run, end, end + run};
      }
      at += other;
    }
  }
  return undecided(complete, run);
}

// [label](target)
Found find_link(std::string_view text, bool complete) {
  const size_t close = text.find(']');
  if (close == std::string_view::npos || close + 1 == text.size()) return undecided(complete, 1);
  if (text[close + 1] != '(' || close == 1) return literal(1);
  const size_t end = text.find_first_of(") ", close);
  if (end == std::string_view::npos) return undecided(complete, 1);
  if (text[end] == ' ') return literal(1);
  return {Found::Kind::kSpan, 1, close, end + 1};
}

Found find(std::string_view text, bool complete, char previous) {
  switch (text[0]) {
    case '`':
      return find_code(text, complete);
    case '*':
    case '_':
    case '~':
      return find_emphasis(text, complete, previous);
    case '[':
      return find_link(text, complete);
    default:
      return literal(1);
  }
}

Style inner_style(std::string_view text, size_t marks, Style style) {
  switch (text[0]) {
    case '`':
      style.code = true;
      break;
    case '~':
      style.strike = true;
      break;
    case '[':
      style.underline = true;
      break;
    default:
      if (marks != 2) style.italic = true;
      if (marks >= 2) style.bold = true;
  }
  return style;
}

void write_span(std::string_view text, const Found& found, const Style& style, std::string& out) {
  const std::string_view inner = text.substr(found.inner_begin, found.inner_end - found.inner_begin);
  const Style inside = inner_style(text, found.inner_begin, style);
  out += sequence(inside);
  char before = '\n';
  if (text[0] == '`')
    out += inner;
  else
    render_inline(inner, true, inside, before, out);
  out += sequence(style);
  if (text[0] != '[') return;
  const std::string_view target = text.substr(found.inner_end + 2, found.end - found.inner_end - 3);
  if (target == inner) return;
  Style aside = style;
  aside.dim = true;
  out += " " + sequence(aside) + "(" + std::string(target) + ")" + sequence(style);
}

}  // namespace

size_t render_inline(std::string_view text, bool complete, const Style& style, char& previous,
                     std::string& out) {
  size_t at = 0;
  while (at < text.size()) {
    const std::string_view rest = text.substr(at);
    size_t size = 1;
    if (rest[0] == '\\') {
      if (rest.size() == 1 && !complete) break;
      if (rest.size() > 1 && is_punctuation(rest[1])) size = 2;
      out += rest[size - 1];
      previous = rest[size - 1];
    } else {
      const Found found = find(rest, complete || rest.size() > kPatience, previous);
      if (found.kind == Found::Kind::kUndecided) break;
      size = found.end;
      previous = rest[size - 1];
      if (found.kind == Found::Kind::kSpan)
        write_span(rest, found, style, out);
      else
        out += rest.substr(0, size);
    }
    at += size;
  }
  return at;
}

}  // namespace flagscale::chat
