#pragma once
// Markdown as it streams in, to text with ANSI's attributes for a terminal.
//
// However the text is cut into pieces, what comes out is the same. Text is shown as soon as it is certain:
// marks such as ** are held back until their partner or the line's end has come. Control characters in the
// text (escape sequences of a model's own) are dropped.

#include <functional>
#include <string>
#include <string_view>

#include "chat/style.h"

namespace flagscale::chat {

class MarkdownPrinter {
 public:
  explicit MarkdownPrinter(std::function<void(std::string_view)> print) : print_(std::move(print)) {}

  void put(std::string_view text);
  void finish();  // the text ends here; ready for another

 private:
  enum class At { kLineStart, kText, kCodeStart, kCode };
  void put_char(char c);
  void advance(bool line_ends);
  void start_line(bool line_ends);
  void start_code_line(bool line_ends);
  void enter(At at, size_t consumed);
  void end_line();

  std::function<void(std::string_view)> print_;
  std::string held_;   // of the current line, not shown yet
  std::string out_;    // to print at the end of put()
  std::string fence_;  // that the open code block ends with
  At at_ = At::kLineStart;
  Style style_;  // of the current line
  char previous_ = '\n';
  bool lead_ = false;  // the first byte of a character that may be a control character (U+0080 to U+009F)
};

// The text without control characters but line ends and tabs.
std::string without_controls(std::string_view text);

}  // namespace flagscale::chat
