#include "chat/markdown.h"

#include <algorithm>
#include <utility>

#include "chat/inline_markdown.h"

namespace flagscale::chat {

namespace {

constexpr std::string_view kBar = "────────────────────";
constexpr size_t kLongMark = 256;  // bytes of a line after which it is no longer waited for what it may be
constexpr char kLead = '\xc2';

bool is_control(char c) { return (c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == '\x7f'; }

size_t count_of(std::string_view text, size_t at, char c) {
  size_t end = at;
  while (end < text.size() && text[end] == c) ++end;
  return end - at;
}

// What a line begins with, once that is certain.
struct Opening {
  enum class Kind { kUndecided, kText, kHeading, kFence, kRule, kItem, kQuote } kind = Kind::kUndecided;
  size_t indent = 0, size = 0;  // size: with the indent and the mark
};

Opening opening_of(std::string_view line, bool complete) {
  using Kind = Opening::Kind;
  const size_t indent = std::min(line.find_first_not_of(" \t"), line.size());
  const auto text = [&] { return Opening{Kind::kText, indent, 0}; };
  if (indent == line.size()) return complete ? text() : Opening{};
  const char mark = line[indent];
  if (std::string_view("#>-*+_`~").find(mark) == std::string_view::npos) return text();
  const size_t run = count_of(line, indent, mark), after = indent + run;
  if (after == line.size() && !complete) return {};  // the mark may go on
  const bool ends = after == line.size(), blank = !ends && line[after] == ' ';
  switch (mark) {
    case '#':
      return run <= 6 && blank ? Opening{Kind::kHeading, indent, after + 1} : text();
    case '>':
      return {Kind::kQuote, indent, indent + 1 + (run == 1 && blank ? 1 : 0)};
    case '`':
    case '~':
      if (run < 3) return text();
      if (mark == '`' && line.find('`', after) != std::string_view::npos) return text();
      return complete ? Opening{Kind::kFence, indent, after} : Opening{};
    default:
      break;
  }
  if (run >= 3 && mark != '+' && line.find_first_not_of(" \t", after) == std::string_view::npos)
    return complete ? Opening{Kind::kRule, indent, line.size()} : Opening{};
  if (run == 1 && blank && mark != '_') return {Kind::kItem, indent, after + 1};
  return text();
}

}  // namespace

std::string without_controls(std::string_view text) {
  std::string kept;
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] == kLead && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0)
      ++i;
    else if (!is_control(text[i]))
      kept += text[i];
  return kept;
}

void MarkdownPrinter::put(std::string_view text) {
  for (const char c : text) put_char(c);
  if (!out_.empty()) print_(out_);
  out_.clear();
}

void MarkdownPrinter::put_char(char c) {
  if (lead_) {
    lead_ = false;
    if (static_cast<unsigned char>(c) >= 0x80 && static_cast<unsigned char>(c) < 0xa0) return;
    held_ += kLead;
  }
  if (c == kLead) {
    lead_ = true;
  } else if (c == '\n') {
    advance(true);
    end_line();
  } else if (!is_control(c)) {
    held_ += c;
    advance(false);
  }
}

void MarkdownPrinter::finish() {
  lead_ = false;
  advance(true);
  if (!(style_ == Style{})) out_ += sequence({});
  put("");
  held_.clear(), fence_.clear();
  style_ = {};
  at_ = At::kLineStart;
  previous_ = '\n';
}

void MarkdownPrinter::advance(bool line_ends) {
  if (at_ == At::kLineStart) start_line(line_ends);
  if (at_ == At::kCodeStart) start_code_line(line_ends);
  if (at_ == At::kText) held_.erase(0, render_inline(held_, line_ends, style_, previous_, out_));
  if (at_ == At::kCode) out_ += std::exchange(held_, {});
}

void MarkdownPrinter::enter(At at, size_t consumed) {
  at_ = at;
  held_.erase(0, consumed);
}

void MarkdownPrinter::start_line(bool line_ends) {
  using Kind = Opening::Kind;
  const Style dim{.dim = true};
  while (true) {
    const Opening opening = opening_of(held_, line_ends || held_.size() > kLongMark);
    const std::string indent = held_.substr(0, opening.indent);
    switch (opening.kind) {
      case Kind::kUndecided:
        return;
      case Kind::kText:
        return enter(At::kText, 0);
      case Kind::kHeading:
        style_ = {.bold = true, .underline = opening.size - opening.indent == 2};
        out_ += indent + sequence(style_);
        return enter(At::kText, opening.size);
      case Kind::kItem:
        out_ += indent + "• ";
        return enter(At::kText, opening.size);
      case Kind::kQuote:  // of anything that a line may be
        out_ += indent + sequence(dim) + "│ " + sequence({});
        enter(At::kLineStart, opening.size);
        continue;
      case Kind::kRule:
        out_ += sequence(dim) + std::string(kBar) + sequence({});
        return enter(At::kText, opening.size);
      case Kind::kFence:
        fence_ = held_.substr(opening.indent, opening.size - opening.indent);
        out_ += sequence(dim) + std::exchange(held_, {}) + sequence({});
        at_ = At::kText;  // end_line() goes on inside
        return;
    }
  }
}

// A line of a code block is shown as it comes, but for one that may be the closing fence.
void MarkdownPrinter::start_code_line(bool line_ends) {
  const size_t indent = std::min(held_.find_first_not_of(' '), held_.size());
  const size_t run = count_of(held_, indent, fence_[0]);
  const bool only = held_.find_first_not_of(" \t", indent + run) == std::string::npos;
  if (only && !line_ends && held_.size() <= kLongMark) return;
  if (only && line_ends && run >= fence_.size()) {
    fence_.clear();
    out_ += sequence({.dim = true}) + std::exchange(held_, {}) + sequence({});
    at_ = At::kText;
    return;
  }
  if (!held_.empty()) {
    style_ = {.code = true};
    out_ += sequence(style_);
  }
  at_ = At::kCode;
}

void MarkdownPrinter::end_line() {
  if (!(style_ == Style{})) out_ += sequence({});
  out_ += '\n';
  style_ = {};
  previous_ = '\n';
  at_ = fence_.empty() ? At::kLineStart : At::kCodeStart;
}

}  // namespace flagscale::chat
